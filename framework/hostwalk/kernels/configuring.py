"""The configuration of a kernel that is built: made from fragments, checked, and made again only when it must be.

To make it takes hundreds of runs of the compiler (scripts/Kconfig.include, cc-option), a good part of what building
after a small change takes.
"""

from __future__ import annotations

import re
from pathlib import Path

from hostwalk.kernels import fragments
from hostwalk.kernels.fragments import Option
from hostwalk.kernels.making import Maker
from hostwalk.kernels.progress import Progress

_KCONFIG = re.compile(r"^\t(\S+) \\$|^\t(\S+)$", re.MULTILINE)


def configure(maker: Maker, options: tuple[Option, ...], version: str, progress: Progress) -> None:
    """Make the configuration in the build directory; raises KernelBuildError where it is not what was asked for."""
    stamp = maker.out.parent / "configured"
    text = fragments.text_of(options)
    state = f"{maker.compiler.version}\n{maker.source}\n{text}"
    if not is_current(maker, stamp, state):
        stamp.unlink(missing_ok=True)
        wish = maker.out.parent / "wanted.config"
        wish.write_text(text)
        with progress.task(f"configuring Linux {version} for {maker.compiler.arch}", None):
            maker.run(["allnoconfig"], {"KCONFIG_ALLCONFIG": str(wish)})
    config = fragments.values((maker.out / ".config").read_text())
    fragments.verify(options, config, version)
    stamp.write_text(state)


def is_current(maker: Maker, stamp: Path, state: str) -> bool:
    """Return whether compiler, options and the tree's Kconfig files are those that the configuration came from."""
    try:
        made = stamp.stat().st_mtime_ns
        names = kconfig_files((maker.out / "include/config/auto.conf.cmd").read_text())
        ages = [(maker.source / name).stat().st_mtime_ns for name in names]
        return (
            stamp.read_text() == state
            and bool(ages)
            and max(ages) < made
            and (maker.out / ".config").is_file()
        )
    except FileNotFoundError:
        return False


def kconfig_files(text: str) -> list[str]:
    """Return the Kconfig files, relative to the source, that include/config/auto.conf.cmd names."""
    block = text.partition("deps_config :=")[2].partition("\n\n")[0]
    return [first or last for first, last in _KCONFIG.findall(block)]
