"""Names of the guest's numbers: errors, signals and their codes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hostwalk.errors import UsageError

MAX_ERRNO = 4095
_ERRNO = re.compile(r"E[A-Z0-9]+")
_SIGNAL = re.compile(r"SIG[A-Z0-9]+")


@dataclass(frozen=True)
class Fault:
    """A signal that ended an access: ``index`` counts the accesses before it, ``addr`` is si_addr."""

    signal: str
    code: str
    addr: int
    index: int

    def __str__(self) -> str:
        return f"{self.signal} ({self.code}) at {self.addr:#x}"


class Names:
    """Names by number, from the agent's table."""

    def __init__(self, abi: Mapping[str, int]) -> None:
        self._abi = abi
        self._errnos = _reverse(abi, _ERRNO)
        self._signals = _reverse(abi, _SIGNAL)

    def errno(self, value: int) -> str | None:
        """Return the name of the error that a kernel's return value stands for; None if it is a success."""
        number = -signed(value)
        return self._errnos.get(number, f"errno {number}") if 0 < number <= MAX_ERRNO else None

    def signal(self, number: int) -> str:
        """Return ``SIGSEGV`` for 11."""
        return self._signals.get(number, f"signal {number}")

    def code(self, signal: str, number: int) -> str:
        """Return the name of an si_code of a signal, ``SEGV_MAPERR`` for 1 of SIGSEGV."""
        prefix = f"{signal.removeprefix('SIG')}_"
        known = (key for key, value in self._abi.items() if key.startswith(prefix) and value == number)
        return next(known, f"si_code {signed(number)}")

    def fault(self, args: tuple[int, ...]) -> Fault:
        """Return what the arguments of a HOSTWALK_FAULT reply say."""
        signal = self.signal(args[0])
        return Fault(signal, self.code(signal, args[1]), args[2], args[3])

    def ending(self, status: int) -> str:
        """Return what a wait status says, ``was killed by SIGKILL``."""
        if status & 0x7F:
            return f"was killed by {self.signal(status & 0x7F)}"
        return f"exited with status {status >> 8 & 0xFF}"

    def number(self, name: str, prefix: str = "") -> int:
        """Return the value of a constant, with or without its prefix; raise UsageError.

        ``number("DONTNEED", "MADV_")`` and ``number("MADV_DONTNEED", "MADV_")`` are the same.
        """
        for key in (name, prefix + name.upper()):
            if key.startswith(prefix) and key in self._abi:
                return self._abi[key]
        raise UsageError(f"the guest's ABI has no constant {prefix + name.removeprefix(prefix)}")

    def flags(self, names: str, prefix: str = "") -> int:
        """Return constants joined by ``|`` as one number."""
        value = 0
        for name in names.split("|"):
            value |= self.number(name.strip(), prefix)
        return value


def signed(value: int) -> int:
    """Return a 64-bit word as a signed number."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _reverse(abi: Mapping[str, int], pattern: re.Pattern[str]) -> dict[int, str]:
    names: dict[int, str] = {}
    for key, value in abi.items():
        if pattern.fullmatch(key):
            names.setdefault(value, key)
    return names
