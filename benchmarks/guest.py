"""How long it takes to boot with and without a user land, to fork, to log in, to run ``true``: the best, in seconds.

python benchmarks/guest.py [ARCH [KERNEL]]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

from hostwalk.cache import Cache
from hostwalk.cell import Cell, boot, prepare
from hostwalk.kernels.progress import SILENT
from hostwalk.machine.ssh import Ssh
from hostwalk.options import CheckOptions
from hostwalk.target import DEFAULT_KERNEL, Arch, Target
from hostwalk.template import template_of

TIMES = 5


def timed(action: Callable[[], object]) -> tuple[float, object]:
    """Return how long an action took, and what it returned."""
    begin = time.perf_counter()
    made = action()
    return time.perf_counter() - begin, made


def best(make: Callable[[], Cell], times: int = TIMES) -> float:
    """Return the shortest time in which a cell was made; each is closed."""
    taken = []
    for _ in range(times):
        seconds, cell = timed(make)
        taken.append(seconds)
        assert isinstance(cell, Cell)
        cell.close()
    return min(taken)


def logins(fork: Callable[[], Cell]) -> tuple[float, float, float]:
    """Return the shortest times of a login, of the first command, of another."""
    rows = []
    for _ in range(TIMES):
        cell = fork()
        in_, ssh = timed(cell.machine.ssh)
        assert isinstance(ssh, Ssh)
        rows.append((in_, *(timed(partial(ssh.run, ["true"]))[0] for _ in range(2))))
        cell.close()
    return tuple(min(column) for column in zip(*rows, strict=True))  # type: ignore[return-value]


def main() -> None:
    """Measure and print."""
    target = Target(Arch.parse((sys.argv[1:] or ["x86_64"])[0]), (sys.argv[2:] or [DEFAULT_KERNEL])[0])
    options, cache = CheckOptions(), Cache.user()
    plain = prepare(target, options, SILENT, cache)
    login = prepare(target, options, SILENT, cache, login=True)
    print(
        f"{target}: boot {best(lambda: boot(plain), 3):.2f}, with a user land {best(lambda: boot(login), 3):.2f}"
    )
    for name, prepared in (("fork", plain), ("fork with a user land", login)):
        print(f"{name} {best(template_of(prepared).fork):.3f}")
    print("log in {:.3f}, first true {:.3f}, another {:.3f}".format(*logins(template_of(login).fork)))


if __name__ == "__main__":
    main()
