"""Which accelerator a target gets, and why.

A device node proves nothing: KVM is chosen only after a guest has run on it (see probe.py). The answer is
kept in the user's cache until the host boots again, or QEMU or the processor model changes.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hostwalk.cache import Cache, key_of
from hostwalk.deadline import Deadline
from hostwalk.errors import CacheError, LaunchError, UsageError
from hostwalk.machine.command import cpu_model
from hostwalk.machine.probe import PROBE_SECONDS, probe
from hostwalk.machine.qemu import Qemu, find_qemu
from hostwalk.target import Arch, Target

KVM_DEVICE = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
ANSWER = "answer.json"


@dataclass(frozen=True)
class Accel:
    """An accelerator, tcg or kvm, and the reason of the choice in one line."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def choose(target: Target, cache: Cache | None = None) -> Accel:
    """Return the accelerator for a target.

    Raises LaunchError when the target insists on KVM and the host cannot run it, MissingToolError without
    QEMU.
    """
    if target.accel == "tcg":
        return Accel("tcg", "asked for")
    obstacle = _obstacle(target.arch) or _probed(target, cache)
    if not obstacle:
        return Accel("kvm", "a probe boot passed")
    if target.accel == "kvm":
        raise LaunchError(f"KVM cannot be used: {obstacle}", remedy="use --accel auto or --accel tcg")
    return Accel("tcg", obstacle)


def host_arch() -> Arch | None:
    """Return the host's architecture, None if hostwalk does not know it."""
    try:
        return Arch.parse(platform.machine())
    except UsageError:
        return None


def host_processor() -> str:
    """Return what tells this host's processors from others: what KVM lets a guest see depends on it."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    kept = ("vendor_id", "model name", "stepping", "microcode", "flags", "Features", "CPU ")
    return "\n".join(dict.fromkeys(line for line in text.splitlines() if line.startswith(kept)))


def _obstacle(arch: Arch) -> str:
    """Say what rules KVM out without a try, "" if nothing does."""
    if host_arch() is not arch:
        return f"the host is {platform.machine()}, not {arch}"
    if not KVM_DEVICE.exists():
        return f"there is no {KVM_DEVICE}"
    if not os.access(KVM_DEVICE, os.R_OK | os.W_OK):
        return f"no right to use {KVM_DEVICE} (is the user in its group?)"
    return ""


def _probed(target: Target, cache: Cache | None) -> str:
    """Say why a probe boot on KVM failed, "" if it passed; asks the cache first."""
    qemu, model = find_qemu(target.arch), cpu_model(target, "kvm")

    def ask() -> str:
        return _probe(target.arch, qemu, model)

    try:
        return _remembered(cache or Cache.user(), qemu, model, ask)
    except CacheError:
        return ask()


def _probe(arch: Arch, qemu: Qemu, model: str) -> str:
    failure = probe(arch, qemu, "kvm", model, Deadline.after(PROBE_SECONDS))
    return f"{KVM_DEVICE} exists, but a probe boot {failure}" if failure else ""


def _remembered(cache: Cache, qemu: Qemu, model: str, ask: Callable[[], str]) -> str:
    def make(directory: Path) -> None:
        (directory / ANSWER).write_text(json.dumps({"obstacle": ask(), "qemu": qemu.version, "cpu": model}))

    entry = cache.entry("accel", key_of(BOOT_ID.read_text(), qemu.identity, qemu.machine, model), make)
    return str(json.loads((entry / ANSWER).read_text())["obstacle"])
