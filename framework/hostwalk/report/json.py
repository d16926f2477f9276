"""The report as JSON, for programs. Fields are only ever added; anything else raises VERSION."""

from __future__ import annotations

import json
from typing import Any

import hostwalk
from hostwalk.report import story
from hostwalk.report.model import Result, Run, Verdict
from hostwalk.target import Target

SCHEMA = "hostwalk.run"
VERSION = 1


def document(run: Run) -> dict[str, Any]:
    """Return the report as plain data."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "hostwalk": hostwalk.__version__,
        "seed": run.seed,
        "seconds": round(run.seconds, 3),
        "sabotage": run.sabotage,
        "command": run.command,
        "exit_status": run.exit_status,
        "counts": {verdict.value: run.counts[verdict] for verdict in Verdict},
        "targets": [_target(target, run.identities.get(target.name, "")) for target in run.targets],
        "results": [_result(result) for result in run.results],
    }


def text(run: Run) -> str:
    """Return the report as JSON text, ASCII only."""
    return json.dumps(document(run), indent=1) + "\n"


def _target(target: Target, identity: str) -> dict[str, Any]:
    return {
        "name": target.name,
        "arch": target.arch.value,
        "format": target.format,
        "kernel": target.kernel,
        "accel": target.accel,
        "memory_mib": target.memory,
        "cpus": target.cpus,
        "identity": identity,
    }


def _result(result: Result) -> dict[str, Any]:
    return {
        "claim": result.claim_id,
        "page": result.page,
        "sentence": result.sentence,
        "reading": result.reading,
        "code": result.code,
        "target": result.target.name,
        "verdict": result.verdict.value,
        "reason": result.reason,
        "detail": result.detail,
        "seconds": round(result.seconds, 3),
        "rerun": result.rerun,
        "where": result.where,
        "nodeid": result.nodeid,
        "crashed": result.crashed,
        "kernels": result.kernels,
        "departs": result.departs,
        "story": story.plain(result.story) if result.story is not None else None,
        "untestable": result.untestable,
        "state": result.observed.digest,
        "costs": dict(result.observed.costs),
        "printed": list(result.observed.warnings),
    }
