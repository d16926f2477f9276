"""Where the files are that are not Python: at the top of a checkout, or below ``_data`` of the package."""

from __future__ import annotations

from pathlib import Path

from hostwalk.errors import ResolveError

_PACKAGE = Path(__file__).resolve().parent
_TOP = _PACKAGE.parent.parent


def guest_sources() -> Path:
    """Return the directory with the sources of agent and exerciser; raises ResolveError."""
    return _find("guest", _TOP / "guest")


def images() -> Path:
    """Return the directory with the manifests of images; raises ResolveError."""
    return _find("images", _TOP / "images")


def contract() -> Path:
    """Return the directory with the claims; raises ResolveError."""
    return _find("contract", _TOP / "tests" / "contract")


def _find(name: str, in_checkout: Path) -> Path:
    installed = _PACKAGE / "_data" / name
    if installed.is_dir():
        return installed
    if (_TOP / "pyproject.toml").is_file() and in_checkout.is_dir():
        return in_checkout
    raise ResolveError(f"hostwalk is not complete: {installed} is not there", remedy="install hostwalk again")
