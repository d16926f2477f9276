"""The CI files that users copy: whole YAML, and commands that our own parser takes."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hostwalk.cli.check import options_of
from hostwalk.cli.main import parser_for

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "ci"
FILES = sorted(EXAMPLES.glob("*.yml"))
VALUES = {
    "github.base_ref": ["main"],
    "CI_MERGE_REQUEST_DIFF_BASE_SHA": ["1234abcd"],
}
VARIABLE = re.compile(r"\$\{\{ *([\w.]+) *\}\}|\$(\w+)")


def load(path: Path) -> dict[str, Any]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def github(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Yield each step's script with what its variables can be."""
    for job in document["jobs"].values():
        matrix = job.get("strategy", {}).get("matrix", {})
        values = {f"matrix.{key}": each for key, each in matrix.items() if isinstance(each[0], str)}
        for cell in matrix.get("cell", [{}]):
            known = {**values, **{f"matrix.cell.{key}": [value] for key, value in cell.items()}}
            for step in job["steps"]:
                yield step.get("run", ""), known


def gitlab(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Yield each line of each script with what its variables can be."""
    for job in (each for each in document.values() if isinstance(each, dict)):
        cells = job.get("parallel", {}).get("matrix", [job.get("variables", {})])
        for cell in cells:
            known = {key: value if isinstance(value, list) else [str(value)] for key, value in cell.items()}
            for line in (*job.get("before_script", []), *job.get("script", [])):
                yield line, known


def commands(path: Path) -> list[list[str]]:
    """Return every hostwalk command line that a file can come to run."""
    document = load(path)
    scripts = github(document) if "jobs" in document else gitlab(document)
    return [words for script, known in scripts for words in expanded(script, known)]


def expanded(script: str, known: dict[str, list[str]]) -> Iterator[list[str]]:
    text = script.strip()
    if not text.startswith("hostwalk "):
        return
    names = list(dict.fromkeys(a or b for a, b in VARIABLE.findall(text)))
    choices = [{**VALUES, **known}[name] for name in names]
    for values in itertools.product(*choices):
        told = dict(zip(names, values, strict=True))
        yield shlex.split(VARIABLE.sub(lambda match: told[match[1] or match[2]], text))[1:]  # noqa: B023


def parsed(words: list[str]) -> Any:
    return parser_for(words[0]).parse_args(words)


def test_there_are_examples() -> None:
    assert [path.name for path in FILES] == ["github-actions.yml", "gitlab-ci.yml"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_commands_are_ours(path: Path) -> None:
    verbs = [words[0] for words in commands(path)]
    assert {"check", "compare", "doctor"} <= set(verbs)
    for words in commands(path):
        parsed(words)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_cell_of_the_matrix_is_a_target_of_ours(path: Path) -> None:
    checks = [options_of(parsed(words)) for words in commands(path) if words[0] == "check"]
    names = {target.name for options in checks for target in options.targets}
    assert len(names) == 6
    assert {"x86_64-5level/debian:6.1", "arm64-48bit/debian:6.12"} <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_shards_of_each_cell_are_the_whole(path: Path) -> None:
    checks = [options_of(parsed(words)) for words in commands(path) if words[0] == "check"]
    for target in {options.targets[0] for options in checks}:
        assert sorted(each.shard for each in checks if each.targets[0] == target) == ["1/2", "2/2"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_results_and_cache_are_kept(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "--junit hostwalk.xml" in text
    assert text.count(".hostwalk") >= 2
    assert "/dev/kvm" in text


CONTEXTS = {"github", "needs", "vars", "inputs"}
FUNCTIONS = {
    "always",
    "cancelled",
    "success",
    "failure",
    "contains",
    "startsWith",
    "endsWith",
    "format",
    "fromJSON",
}


def strangers(condition: str) -> set[str]:
    """Return what GitHub does not know in a job's condition, for it is evaluated before there is a checkout."""
    plain = re.sub(r"'[^']*'", "", condition)
    called = set(re.findall(r"(\w+) *\(", plain))
    named = set(re.findall(r"(?<![\w.])([a-z]\w*)(?=\.)", plain))
    return (called - FUNCTIONS) | (named - CONTEXTS)


def test_a_job_depends_on_nothing_that_only_a_step_knows() -> None:
    jobs = load(EXAMPLES / "github-actions.yml")["jobs"]
    conditions = [str(job["if"]) for job in jobs.values() if "if" in job]
    assert conditions
    assert [strangers(each) for each in conditions] == [set()] * len(conditions)
    assert strangers("env.X == 'a.b()' && hashFiles('Kbuild') != ''") == {"env", "hashFiles"}


def test_a_wrong_option_would_be_noticed() -> None:
    with pytest.raises(SystemExit):
        parsed(["check", "--shards", "1/2"])
