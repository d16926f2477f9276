"""What the tests of other people's suites are made of: small suites, programs, and a driver that leaks."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hostwalk.kernels import toolchain
from hostwalk.suites import ktap
from hostwalk.suites.expected import Known
from hostwalk.suites.outcome import Ending, Result, judged
from hostwalk.suites.plan import Step
from hostwalk.target import Arch

DRIVER = """
#include <linux/fs.h>
#include <linux/kstrtox.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>

static struct page *pages[3];

/* Pins three pages of whoever writes an address, and forgets them. */
static ssize_t leak_write(struct file *file, const char __user *text, size_t size, loff_t *pos)
{
	unsigned long address;
	int error = kstrtoul_from_user(text, size, 16, &address);

	if (!error)
		error = pin_user_pages_fast(address & PAGE_MASK, 3, FOLL_WRITE | FOLL_LONGTERM, pages);
	return error < 0 ? error : size;
}

static const struct file_operations leak_fops = { .owner = THIS_MODULE, .write = leak_write };
static struct miscdevice leak_device = {
	.minor = MISC_DYNAMIC_MINOR, .name = "leak", .fops = &leak_fops,
};

module_misc_device(leak_device);
MODULE_DESCRIPTION("Leaves pages pinned");
MODULE_LICENSE("GPL");
"""
EATS = """
#include <stdlib.h>
#include <string.h>

int main(void)
{
	for (;;)
		memset(malloc(1 << 20), 1, 1 << 20);
}
"""
PIN = "echo $(sed -n 's/-.*\\[heap\\]$//p' /proc/$$/maps) >/dev/leak"
STAYS = """\
setsid sh -c '
    echo 0 >/sys/fs/cgroup/cgroup.procs
    echo $(sed -n "s/-.*\\[heap\\]\\$//p" /proc/$$/maps) >/dev/leak
    echo >/tmp/pinned
    while :; do sleep 1000; done
' </dev/null >/dev/null 2>&1 &
while [ ! -e /tmp/pinned ]; do sleep 0.1; done
"""


def write_driver(place: Path) -> Path:
    """Write the driver's source into a directory, for ``build_module``."""
    place.mkdir()
    (place / "leak.c").write_text(DRIVER.lstrip())
    (place / "Kbuild").write_text("obj-m := leak.o\n")
    return place


def compiled(source: str, program: Path, arch: Arch, *words: str) -> Path:
    """Compile a C program for a guest."""
    compiler = toolchain.find(arch).cc
    subprocess.run(
        [compiler, "-x", "c", "-", "-o", program, *words], input=source, text=True, check=True, timeout=60
    )
    return program


@dataclass(frozen=True)
class Programs:
    """A suite of programs of the host, each a step by its name, judged as selftests are."""

    paths: Mapping[str, Path]
    name: str = "own"
    known: Known = field(default_factory=Known)
    whole: bool = True

    def why_not(self, _step: Step) -> str:
        return ""

    def files(self, step: Step) -> tuple[tuple[Path, str], ...]:
        return ((self.paths[step.name], f"/root/{step.name}"),)

    def command(self, step: Step) -> tuple[str, ...]:
        return step.command

    def judged(self, name: str, text: str, ending: Ending) -> tuple[Result, ...]:
        return judged(name, ktap.parse(text), ending)


def script(place: Path, name: str, text: str) -> Path:
    """Write a shell script."""
    path = place / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path
