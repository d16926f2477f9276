"""The round trip of ``hostwalk run -- true`` against virtme-ng's on the same kernel, in one run, under TCG.

Run it on an idle host: ``python benchmarks/run.py [--quick] [--kernel SPEC]``. Both run from the shell, in turn, on one
virtual CPU with 256 MiB. virtme-ng comes from PyPI into a directory of its own, which is removed afterwards; it needs
a static busybox (from Debian's package, unpacked there) and virtiofsd. Where it cannot be had or does not boot the
kernel, the reason is printed; a boot with a login, without a template, is measured in any case.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pexpect

from hostwalk.cache import Cache
from hostwalk.cell import Prepared, boot, prepare
from hostwalk.kernels.progress import SILENT
from hostwalk.options import CheckOptions

VNG_SECONDS = 120
INSTALL_SECONDS = 300
LAST_LINES = 8
QEMU_VIRTIOFSD = Path("/usr/lib/qemu/virtiofsd")
# virtme-ng gives the options of the virtiofsd in Rust and waits for a pid file; QEMU 7.2 comes with the one in C.
SHIM = f"""#!/bin/sh
while [ $# -gt 0 ]; do
	case "$1" in
	--version|--help) exec {QEMU_VIRTIOFSD} "$1" ;;
	--socket-path) sock=$2; shift ;;
	--shared-dir) dir=$2; shift ;;
	--cache) cache=$2; shift ;;
	--sandbox) shift ;;
	esac
	shift
done
echo $$ > "$sock.pid"
exec {QEMU_VIRTIOFSD} -f --socket-path="$sock" -o source="$dir" -o cache="$cache" -o sandbox=chroot
"""


class CannotError(Exception):
    """virtme-ng cannot be had, or does not run: the message says why."""


@dataclass(frozen=True)
class Row:
    """What was measured of one way: seconds, one per time."""

    name: str
    seconds: list[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        each = ", ".join(f"{second:.2f}" for second in self.seconds)
        return f"{self.name:<44} {self.median:6.2f} s  ({each})"


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def with_hostwalk(kernel: str) -> None:
    """Run ``true`` by hostwalk, from the shell."""
    argv = [sys.executable, "-m", "hostwalk", "run", "--accel", "tcg", "--kernel", kernel, "--", "true"]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, timeout=VNG_SECONDS)


def booted(prepared: Prepared) -> None:
    """Boot, log in, run ``true``: what a round trip takes without a template."""
    cell = boot(prepared)
    try:
        assert cell.machine.ssh().run(["true"]).status == 0
    finally:
        cell.close()


@dataclass(frozen=True)
class Vng:
    """virtme-ng in a directory of its own."""

    place: Path

    @property
    def environ(self) -> dict[str, str]:
        """The environment in which it finds its helpers."""
        paths = [self.place / "helpers", self.place / "venv" / "bin", os.environ["PATH"]]
        return {**os.environ, "PATH": ":".join(map(str, paths)), "TERM": "dumb"}

    def install(self) -> str:
        """Get it and what it needs; return its version. Raises CannotError."""
        _must("make an environment", [sys.executable, "-m", "venv", self.place / "venv"])
        pip = self.place / "venv" / "bin" / "pip"
        _must("get virtme-ng from PyPI", [pip, "install", "-q", "--disable-pip-version-check", "virtme-ng"])
        helpers = self.place / "helpers"
        helpers.mkdir()
        self._busybox(helpers)
        if not shutil.which("virtiofsd") and QEMU_VIRTIOFSD.exists():
            (helpers / "virtiofsd").write_text(SHIM)
            (helpers / "virtiofsd").chmod(0o755)
        said = _must("ask virtme-ng's version", [self.place / "venv/bin/vng", "--version"])
        return said.split()[-1]

    def _busybox(self, helpers: Path) -> None:
        if shutil.which("busybox"):
            return
        _must("get Debian's busybox-static", ["apt-get", "-q", "download", "busybox-static"], helpers)
        (package,) = helpers.glob("busybox-static*.deb")
        _must("unpack it", ["dpkg-deb", "-x", package, helpers / "root"])
        (helpers / "busybox").symlink_to(helpers / "root" / "bin" / "busybox")

    def run(self, kernel: Path) -> None:
        """Run ``true`` by it, on a terminal, without which it does not; raises CannotError."""
        words = ["--disable-kvm", "--cpus", "1", "--memory", "256M", "--run", str(kernel), "--", "true"]
        child = pexpect.spawn("vng", words, env=self.environ, timeout=VNG_SECONDS, encoding="utf-8")
        try:
            child.expect(pexpect.EOF)
            child.wait()
        except pexpect.TIMEOUT:
            os.killpg(child.pid, signal.SIGKILL)
            raise CannotError(f"it did not end within {VNG_SECONDS} s\n{_last(child.before)}") from None
        finally:
            child.close(force=True)
        if child.exitstatus != 0:
            raise CannotError(
                f"it ended with status {child.exitstatus}:\n{_last(child.before) or '  it says nothing'}"
            )


def _must(what: str, argv: list[str | Path], directory: Path | None = None) -> str:
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=True, timeout=INSTALL_SECONDS, cwd=directory
        )
    except subprocess.CalledProcessError as error:
        raise CannotError(f"cannot {what}:\n{_last(error.stderr)}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotError(f"cannot {what}: {error}") from None
    return done.stdout


def _last(text: object) -> str:
    lines = str(text).replace("\r", "").strip().splitlines()
    return "\n".join(f"  {line}" for line in lines[-LAST_LINES:])


def measure(kernel: str, times: int) -> None:
    """Measure and print."""
    options = CheckOptions(kernels=(kernel,), archs=(platform.machine(),), accel="tcg")
    prepared = prepare(options.targets[0], options, SILENT, Cache.user(), login=True)
    with_hostwalk(kernel)  # the template is made, once, before the first
    hostwalk, vng, why = (
        Row("hostwalk run -- true", []),
        Row("vng --disable-kvm --run KERNEL -- true", []),
        "",
    )
    with tempfile.TemporaryDirectory(prefix="hostwalk-vng-") as directory:
        other = Vng(Path(directory))
        try:
            print(
                f"virtme-ng {other.install()}, Linux {prepared.kernel.release}, TCG, load {os.getloadavg()[0]:.1f}"
            )
            other.run(prepared.kernel.boot)
            for _ in range(times):
                hostwalk.seconds.append(timed(lambda: with_hostwalk(kernel)))
                vng.seconds.append(timed(lambda: other.run(prepared.kernel.boot)))
        except CannotError as error:
            why = str(error)
    if not hostwalk.seconds:
        hostwalk.seconds.extend(timed(lambda: with_hostwalk(kernel)) for _ in range(times))
    print(hostwalk)
    plain = Row("boot, log in, true (no template, in Python)", [timed(lambda: booted(prepared))])
    if vng.seconds and not why:
        print(f"{vng}\nvirtme-ng takes {vng.median / hostwalk.median:.1f} times as long")
    else:
        print(f"virtme-ng: {why}")
    print(f"{plain}\na boot takes {plain.median / hostwalk.median:.1f} times as long")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two round trips each instead of five")
    parser.add_argument("--kernel", default="debian:6.12", metavar="SPEC")
    args = parser.parse_args()
    measure(args.kernel, 2 if args.quick else 5)


if __name__ == "__main__":
    main()
