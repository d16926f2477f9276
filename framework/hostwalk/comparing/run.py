"""Runs the same claims on both sides, and looks again at what seems to have changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path

from hostwalk import runner
from hostwalk.cache import Cache
from hostwalk.cells import Source, prepare
from hostwalk.comparing.comparison import WORSE, Change, Comparison, Kind, Side, compared
from hostwalk.errors import (
    UNTESTABLE,
    BootError,
    BuildError,
    BuildInterruptedError,
    HostwalkError,
    MachineError,
    Phase,
)
from hostwalk.kernels.progress import SILENT, Progress
from hostwalk.options import CheckOptions
from hostwalk.report.model import Run, Verdict, kernel_in

Runner = Callable[[CheckOptions, Progress], Run]
UNSTEADY = frozenset((Kind.STATE, Kind.COST))
"""Kinds of change that count only if each look shows them."""
SIDES = ("base", "patched")


def options_for(side: Side, options: CheckOptions, extras: tuple[Path | None, Path | None]) -> CheckOptions:
    """Return the request for one side; ``extras`` are the headers and the System.map of a kernel file."""
    headers, symbols = extras
    return replace(options, instead=side.kernel, headers=headers, symbols=symbols)


def prove(name: str, side: Side, options: CheckOptions, progress: Progress, cache: Cache) -> None:
    """Build and boot all cells of one side, before hours are spent on the other.

    Where its kernel cannot be built or does not boot, the error names the side and has the exit status UNTESTABLE.
    """
    for target in options.targets:
        try:
            with progress.task(f"boot {name}: {target}", None):
                Source.of(prepare(target, options, progress, cache))
        except HostwalkError as error:
            if _is_untestable(error):
                error.message = f"the {name} side, {side.label}, cannot be tested: {error.message}"
                error.exit_status = UNTESTABLE
            raise


def _is_untestable(error: HostwalkError) -> bool:
    if isinstance(error, BuildInterruptedError):
        return False
    boots = isinstance(error, MachineError) and error.phase is Phase.BOOT
    return boots or isinstance(error, BuildError | BootError)


Request = tuple[Side, CheckOptions]


def compare(
    base: Request,
    patched: Request,
    progress: Progress = SILENT,
    *,
    looks: int = 3,
    run: Runner = runner.run_contract,
) -> Comparison:
    """Return what changed from base to patched.

    What changed is looked at ``looks`` times, on both sides. A changed state or cost is left out unless each look shows
    the same; a newly broken claim and a new line count all the same, and are marked. A claim that is unproven is tried
    once more.
    Raises what running the contract raises.
    """
    first = compared(base[0], patched[0], *(_proven(side, progress, run) for side in (base, patched)))
    standing = first.changes
    for _ in range(looks - 1):
        again = _claims(standing)
        if not again:
            break
        runs = ((base, first.before), (patched, first.after))
        seen = [_look(side, earlier, again, progress, run) for side, earlier in runs]
        confirmed = {_key(change) for change in compared(base[0], patched[0], *seen).changes}
        standing = tuple(_looked_at(change, _key(change) in confirmed) for change in standing)
        standing = tuple(c for c in standing if c.kind not in UNSTEADY or c.always)
    return replace(first, changes=standing, unsteady=len(first.changes) - len(standing))


def _proven(request: Request, progress: Progress, run: Runner) -> Run:
    """Run one side; what the infrastructure failed to judge gets a second chance."""
    options = request[1]
    first = run(options, progress)
    failed = {(each.cell, each.claim_id) for each in first.having(Verdict.UNPROVEN) if not each.untestable}
    if not failed or len(failed) == len(first.results):
        return first
    again = _look(request, first, failed, progress, run)
    second = {result.nodeid: result for result in again.results}
    return replace(first, results=tuple(second.get(result.nodeid, result) for result in first.results))


def _look(
    request: Request, first: Run, claims: Collection[tuple[str, str]], progress: Progress, run: Runner
) -> Run:
    """Run some claims of one side again; raises HostwalkError where its kernel is another one by now."""
    side, options = request
    found = run(_only(options, first, claims), progress)
    for name, identity in found.identities.items():
        if kernel_in(first.identities.get(name, identity)) != kernel_in(identity):
            raise HostwalkError(
                f"{side.label} was changed while it was compared: it was built anew, with other content",
                remedy="change nothing in the tree meanwhile, or compare commits: --git BASE..PATCHED",
                phase=Phase.BUILD,
            )
    return found


def _claims(changes: Iterable[Change]) -> set[tuple[str, str]]:
    return {(change.cell, change.claim_id) for change in changes if change.kind in UNSTEADY | WORSE}


def _looked_at(change: Change, seen_again: bool) -> Change:
    kinds = UNSTEADY | WORSE
    return replace(change, always=change.always and (seen_again or change.kind not in kinds))


def _only(options: CheckOptions, seen: Run, claims: Collection[tuple[str, str]]) -> CheckOptions:
    """Return the request for just these claims, in which nothing else is to be selected any more."""
    nodeids = tuple(result.nodeid for result in seen.results if (result.cell, result.claim_id) in claims)
    return replace(options, nodeids=nodeids, keyword="", shard="", seed=seen.seed)


def _key(change: Change) -> tuple[object, ...]:
    return change.kind, change.cell, change.claim_id, change.difference
