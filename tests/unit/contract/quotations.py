"""Are the sentences of claims the words of their pages? Looked up there, and noted in quotations.lock.

    python tests/unit/contract/quotations.py --linux TREE [--linux TREE] [--texts DIR]

looks every sentence up: of a page of section 9 in the kernel-doc comments of the trees, of a path in that file of the
trees, of any other page as man(1) prints it. DIR has files of pages that neither has: ``mprotect.SunOS``. What is found
is noted with a digest of page and sentence, so that the unit tests need no pages; what is not is printed, status 1.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib import util
from pathlib import Path

from hostwalk.claim import Claim

HERE = Path(__file__).parent
LOCK = HERE / "quotations.lock"
CONTRACT = HERE.parents[1] / "contract"
ELISION = re.compile(r"\[\.\.\.\]|\.\.\.")
_WORD = re.compile(r"\w+")
_NOT_PAGES = re.compile(r"\A(?:[\w.-]+/)+[\w.-]+\Z")


def claims() -> Iterator[Claim]:
    """Return every claim of the contract."""
    for path in sorted(CONTRACT.glob("test_*.py")):
        spec = util.spec_from_file_location(f"contract_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        for test in list(vars(module).values()):
            marks = getattr(test, "pytestmark", [])
            yield from (mark.args[0] for mark in marks if mark.name == "claim")


def words(text: str) -> str:
    """Return the words of a text, without layout, markup, punctuation and case."""
    plain = re.sub(r"(?m)^[ \t]*\*(?!\*)", " ", text).replace("\N{HYPHEN}", "-")
    return " ".join(_WORD.findall(plain.lower()))


def is_quoted(sentence: str, text: str) -> bool:
    """Whether ``text`` (of :func:`words`) has the sentence's parts, which elisions separate, in their order."""
    at = 0
    for part in ELISION.split(sentence):
        wanted = words(part)
        found = f" {text} ".find(f" {wanted} ", at)
        if not wanted or found < 0:
            return False
        at = found + len(wanted)
    return True


def digest(claim: Claim) -> str:
    """Return what stands for a claim's page and sentence in the lock; None of the rest of a claim is looked up."""
    kind = f"code {claim.code}" if claim.code else "quote"
    return hashlib.sha256(f"{claim.page}\n{kind}\n{claim.sentence}".encode()).hexdigest()[:20]


def locked() -> dict[str, str]:
    """Return the lock: where each digest was found."""
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    return dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))


class Library:
    """The pages at hand."""

    def __init__(self, trees: Iterable[Path], texts: Path | None) -> None:
        self.trees = {_version(tree): tree for tree in trees}
        self.texts = texts
        self._pages: dict[str, dict[str, str]] = {}

    def find(self, claim: Claim) -> str:
        """Return where a claim's sentence, or the function that its code names, was found; empty for nowhere."""
        if claim.code:
            return self._function(claim)
        if claim.page not in self._pages:
            self._pages[claim.page] = {place: words(text) for place, text in self._read(claim.page)}
        pages = self._pages[claim.page]
        return next((place for place, text in pages.items() if is_quoted(claim.sentence, text)), "")

    def _function(self, claim: Claim) -> str:
        names = set(re.findall(r"\w+(?=\(\))", claim.code))
        found: dict[str, set[str]] = {}
        for version, tree in self.trees.items():
            path = tree / claim.page
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            found[version] = {name for name in names if re.search(rf"\b{name}\b", text)}
        if names - set().union(*found.values()):
            return ""
        return ", ".join(f"Linux {version}" for version, here in found.items() if here)

    def _read(self, page: str) -> Iterator[tuple[str, str]]:
        name, _, section = page.removesuffix(")").partition("(")
        if self.texts is not None:
            own = self.texts / f"{name}.{section}"
            yield from [(f"page of {page}", own.read_text(encoding="utf-8"))] if own.is_file() else []
        if _NOT_PAGES.match(page):
            yield from self._file(page)
        elif section == "9":
            yield from self._kernel_doc(name)
        elif section.isdigit():
            yield f"man-pages {_man_version()}", _man(section, name)

    def _file(self, page: str) -> Iterator[tuple[str, str]]:
        for version, tree in self.trees.items():
            for path in (tree / page, tree / "Documentation" / page):
                if path.is_file():
                    yield f"Linux {version}", path.read_text(encoding="utf-8")

    def _kernel_doc(self, name: str) -> Iterator[tuple[str, str]]:
        comment = re.compile(rf"/\*\*?\n \* {name}\b(?:\(\))?(?:\s*-|\n).*?\*/", re.DOTALL)
        for version, tree in self.trees.items():
            for path in sorted((tree / "mm").glob("*.c")):
                for found in comment.findall(path.read_text(encoding="utf-8")):
                    yield f"Linux {version}, {path.relative_to(tree)}", found


def _version(tree: Path) -> str:
    makefile = (tree / "Makefile").read_text(encoding="utf-8")
    numbers = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL) = (\d+)", makefile, re.MULTILINE))
    return ".".join(numbers.values())


def _man_version() -> str:
    page = subprocess.run(["man", "-w", "man-pages"], capture_output=True, text=True, check=True).stdout
    shown = subprocess.run(["zcat", "-f", page.strip()], capture_output=True, text=True, check=True).stdout
    found = re.search(r'"?(?:Linux )?man-pages (\d[\d.]*)', shown)
    return found[1] if found else ""


def _man(section: str, name: str) -> str:
    command = ["man", "--no-hyphenation", "--no-justification", section, name]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MANWIDTH": "1000", "LC_ALL": "C.UTF-8"},
    )
    return done.stdout


def main() -> int:
    """Look every sentence up, note what was found, print what was not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--linux", action="append", type=Path, required=True, metavar="TREE")
    parser.add_argument("--texts", type=Path, metavar="DIR")
    options = parser.parse_args()
    library = Library(options.linux, options.texts)
    found, missing = {}, []
    for claim in claims():
        if place := library.find(claim):
            found[digest(claim)] = f"{claim.page} ({place})"
        else:
            missing.append(claim)
    lines = [f"{key} {place}\n" for key, place in sorted(found.items(), key=lambda item: item[::-1])]
    LOCK.write_text(
        "# Made by quotations.py: digests of sentences, and where their words were found.\n" + "".join(lines)
    )
    for claim in missing:
        sys.stdout.write(f"{claim.id}\t{claim.page}\t{claim.code}\t{claim.sentence}\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
