"""Which Debian mirror this machine uses: sources.list(5), one-line and deb822 style."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hostwalk.errors import FetchError, UsageError

VARIABLE = "HOSTWALK_MIRROR"
SUITE = "bookworm"
SECURITY_SUITE = f"{SUITE}-security"
SOURCE_SUITE = "trixie-backports"
"""Where Debian has the source of kernels that are newer than the suite's own."""
ARCHITECTURES = ("amd64", "arm64")
_KEYRINGS = tuple(Path("/usr/share/keyrings") / f"debian-archive-keyring.{end}" for end in ("gpg", "pgp"))
_RELEASES = "buster|bullseye|bookworm|trixie|forky|duke|sid|unstable|testing|(?:old)*stable"
_BASE = re.compile(f"(?:{_RELEASES})")
_SECURITY = re.compile(f"(?:{_RELEASES})(?:-security|/updates)")
_LINE = re.compile(
    r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>[^#]*)"
)


@dataclass(frozen=True)
class Source:
    """One place that apt takes packages from; ``signed_by`` is a file name, key block or empty."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""


@dataclass(frozen=True)
class Mirrors:
    """Where Debian's archive and its security updates come from."""

    main: Source
    security: Source

    def __str__(self) -> str:
        """Return a deb822 .sources file."""
        return f"{_stanza(self.main)}\n{_stanza(self.security)}"

    def with_suite(self, suite: str) -> Mirrors:
        """Return the same mirrors with one more suite of the main archive."""
        return replace(self, main=replace(self.main, suites=(*self.main.suites, suite)))


def choose(sources: Iterable[Source], wish: str | None, environ: Mapping[str, str] = os.environ) -> Mirrors:
    """Return the mirrors: of ``wish`` ("MIRROR" or "MIRROR SECURITY"), HOSTWALK_MIRROR, or the machine's own.

    Raises UsageError for a wish that is no such thing, FetchError when nothing names a Debian mirror.
    """
    known = list(sources)
    main = _first(known, _BASE)
    security = _first(known, _SECURITY)
    wanted = wish or environ.get(VARIABLE, "")
    if wanted.strip():
        return _wished(wanted, main, security)
    if main is None:
        raise FetchError(
            "apt on this machine has no Debian mirror",
            remedy=f"name one: --mirror URL, or {VARIABLE}=URL (or 'URL SECURITY_URL') in the environment",
        )
    return _mirrors(main.uri, security.uri if security else _derived(main.uri), main, security)


def _wished(wanted: str, main: Source | None, security: Source | None) -> Mirrors:
    words = wanted.split()
    if len(words) > 2 or not all(re.match(r"[a-z][a-z0-9+.-]*:", word) for word in words):
        raise UsageError(
            f"not a mirror: {wanted!r}",
            remedy="give the URL of a Debian archive, or two: archive and security",
        )
    return _mirrors(words[0], words[1] if len(words) == 2 else _derived(words[0]), main, security)


def _mirrors(main_uri: str, security_uri: str, main: Source | None, security: Source | None) -> Mirrors:
    key = (main and main.signed_by) or _keyring()
    return Mirrors(
        Source(main_uri, (SUITE,), ("main",), key),
        Source(security_uri, (SECURITY_SUITE,), ("main",), (security and security.signed_by) or key),
    )


def _keyring() -> str:
    for path in _KEYRINGS:
        if path.exists():
            return str(path)
    raise FetchError(
        "the keys of the Debian archive are not on this machine",
        remedy="install the package debian-archive-keyring",
    )


def _derived(uri: str) -> str:
    """Return where the security archive is, next to the main one."""
    derived, count = re.subn(r"debian(?=(?:\.list)?/?$)", "debian-security", uri)
    return derived if count else f"{uri.rstrip('/')}-security"


def _first(sources: Sequence[Source], suite: re.Pattern[str]) -> Source | None:
    """Return the first Debian source of such a suite; one that Debian's keys sign comes before others."""
    fits = [source for source in sources if _is_debian(source, suite)]
    fits.sort(key=lambda source: "debian" not in source.signed_by and bool(source.signed_by))
    return fits[0] if fits else None


def _is_debian(source: Source, suite: re.Pattern[str]) -> bool:
    fetchable = not source.uri.startswith("cdrom:") and "main" in source.components
    return fetchable and any(suite.fullmatch(name) for name in source.suites)


def _stanza(source: Source) -> str:
    fields = {
        "Types": "deb",
        "URIs": source.uri,
        "Suites": " ".join(source.suites),
        "Components": " ".join(source.components),
        "Architectures": " ".join(ARCHITECTURES),
        "Signed-By": source.signed_by,
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items())


def read_sources(list_file: Path, parts: Path) -> tuple[Source, ...]:
    """Return the sources in a sources.list file and in a directory of .list and .sources files."""
    found = list(parse_list(_text(list_file)))
    for path in sorted(parts.iterdir()) if parts.is_dir() else ():
        if path.suffix == ".list":
            found += parse_list(_text(path))
        elif path.suffix == ".sources":
            found += parse_deb822(_text(path))
    return tuple(found)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def parse_list(text: str) -> tuple[Source, ...]:
    """Return the binary-package sources of a one-line style file."""
    matches = (_LINE.match(line.strip()) for line in text.splitlines())
    return tuple(
        Source(
            match["uri"],
            (match["suite"],),
            tuple(match["components"].split()),
            _option(match["options"] or "", "signed-by"),
        )
        for match in matches
        if match
    )


def _option(options: str, name: str) -> str:
    pairs = dict(word.split("=", 1) for word in options.split() if "=" in word)
    return {key.lower(): value for key, value in pairs.items()}.get(name, "")


def parse_deb822(text: str) -> tuple[Source, ...]:
    """Return the enabled binary-package sources of a deb822 style file; one for each URI."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found: list[Source] = []
    for stanza in re.split(r"\n[ \t]*\n", "\n".join(lines)):
        fields = _fields(stanza)
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in (
            "no",
            "false",
        ):
            continue
        whole = Source(
            "", _words(fields, "suites"), _words(fields, "components"), fields.get("signed-by", "")
        )
        found += [replace(whole, uri=uri) for uri in _words(fields, "uris")]
    return tuple(found)


def _words(fields: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(fields.get(name, "").split())


def _fields(stanza: str) -> dict[str, str]:
    """Return a stanza's fields, names in lower case; continuation lines keep their leading space."""
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line[:1] in (" ", "\t") and name:
            fields[name] += f"\n{line}"
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields
