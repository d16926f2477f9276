"""Yes/no questions."""

from __future__ import annotations

from collections.abc import Callable

from hostwalk.cli.output import err, interactive


def asker() -> Callable[[str], bool] | None:
    """Return a function that asks, or None when nobody is there to answer."""
    return ask if interactive() else None


def ask(question: str) -> bool:
    """Put a question to the terminal; an empty answer is a yes, the end of input a no."""
    err().print(f"{question} [Y/n] ", end="", soft_wrap=True)
    try:
        answer = input()
    except EOFError:
        return False
    return not answer.strip().lower().startswith("n")
