"""The comparison as JSON, for programs. Fields are only ever added; anything else raises VERSION."""

from __future__ import annotations

import json
from typing import Any

import hostwalk
from hostwalk.comparing.comparison import Change, Comparison, Kind, Side
from hostwalk.report import json as of_a_run
from hostwalk.report.model import Run

SCHEMA = "hostwalk.comparison"
VERSION = 1


def document(comparison: Comparison, command: str) -> dict[str, Any]:
    """Return the report as plain data, both runs included."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "hostwalk": hostwalk.__version__,
        "command": command,
        "exit_status": comparison.exit_status,
        "cells": list(comparison.cells),
        "compared": comparison.pairs,
        "counts": {kind.value: comparison.counts[kind] for kind in Kind},
        "left_out": comparison.unsteady,
        "changes": [_change(change) for change in comparison.changes],
        "base": _side(comparison.base, comparison.before),
        "patched": _side(comparison.patched, comparison.after),
    }


def text(comparison: Comparison, command: str) -> str:
    """Return the report as JSON text, ASCII only."""
    return json.dumps(document(comparison, command), indent=1) + "\n"


def _side(side: Side, run: Run) -> dict[str, Any]:
    return {"label": side.label, "kernel": side.kernel, "run": of_a_run.document(run)}


def _change(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind.value,
        "cell": change.cell,
        "claim": change.claim_id,
        "page": change.page,
        "sentence": change.sentence,
        "field": change.difference.field,
        "where": change.difference.where,
        "before": change.difference.before,
        "after": change.difference.after,
        "delta": change.difference.delta,
        "detail": change.detail,
        "rerun": change.rerun,
        "always": change.always,
    }
