"""How an exported program ends: with what was asserted, with the step that fails, or with where to look."""

from __future__ import annotations

import ast

from hostwalk.repro.ccontext import Context
from hostwalk.repro.csight import Condition, Unseen
from hostwalk.repro.csteps import access, expression
from hostwalk.repro.ctext import quoted
from hostwalk.repro.cvalues import said, text_of
from hostwalk.repro.edits import is_expectation, last_assertion

_WHERE = "in QEMU's monitor: gva2gpa and xp; in crash(8): vtop; with drgn: follow_phys()"
_WORDS = 60
_STEPS = ("refuses", "faults", "refused", "faulted")


def failing(to: Context) -> ast.stmt | None:
    """Return the statement that fails; None where that is not a matter of one."""
    if to.script.shows.kind == "assertion":
        return last_assertion(to.script.function)
    node: ast.stmt = to.script.function.body[-1]
    while isinstance(node, ast.With) and not is_expectation(node):
        node = node.body[-1]
    return node if to.script.shows.kind in _STEPS else None


def holds(to: Context, node: ast.stmt) -> bool:
    """Whether a statement is the failing one, or a block that ends with it."""
    found = failing(to)
    return found is not None and (found is node or (isinstance(node, ast.With) and holds(to, node.body[-1])))


def asserted(to: Context, node: ast.Assert) -> None:
    """Assert something, as far as a process can see it; raises UsageError."""
    last = node is failing(to)
    try:
        condition = to.sight.condition(node.test)
    except Unseen:
        to.made.seen_inside &= not last
        to.line(*(f"(void){variable};" for variable in to.sight.variables(node.test)))
        return
    to.declare("int kept;")
    to.line(*_judged(condition))
    told = quoted(f"{said(node.test)}: ")
    to.line(f'printf("%s%s\\n", {told}, kept ? "it holds" : "it does not hold");')
    to.line(*(["return kept ? 0 : 1;"] if last else ["if (!kept)", "\treturn 3;"]))


def _judged(condition: Condition) -> list[str]:
    if condition.pages is None:
        return [f"kept = {condition.text};"]
    start, word = ("0", "||") if condition.any else ("1", "&&")
    text = f"({condition.text})" if " && " in condition.text else condition.text
    return [
        f"kept = {start};", f"for (long i = 0; i < {condition.pages}; i++)", f"\tkept = kept {word} {text};",
    ]  # fmt: skip


def refused(to: Context, call: ast.Call) -> None:
    """Do the step that is refused, although it had to succeed; raises UsageError."""
    errno = to.script.shows.seen[0]
    to.need("verdict")
    to.line(f"return verdict({expression(to, call)}, {errno}, {quoted(said(call))});")


def faulted(to: Context, call: ast.Call) -> None:
    """Do the access that faults, although it had to succeed; raises UsageError."""
    signal, _, rest = to.script.shows.seen[0].partition(" (")
    code = rest.partition(")")[0]
    to.need("faulted")
    attempt(to, call)
    to.line("if (!caught.si_signo)", "\treturn 0;")
    to.line(f"return faulted({signal}, {code or '0'}, {quoted(said(call))}) ? 1 : 3;")


def attempt(to: Context, call: ast.Call) -> None:
    """Make an access that may fault."""
    to.line("catch_faults();", "if (!sigsetjmp(back, 1))", f"\t{access(to, call)};")


def expected_fault(to: Context, expected: ast.Call, call: ast.Call) -> str:
    """Make an access that has to fault; return whether it did, as an expression."""
    to.need("faulted")
    attempt(to, call)
    code = text_of(expected.args[1]) if len(expected.args) > 1 else "0"
    return f"faulted({text_of(expected.args[0])}, {code}, {quoted(said(call))})"


def ending(to: Context) -> None:
    """End the program where the script has come to its end."""
    shows = to.script.shows
    if shows.kind == "warning":
        words = shows.what.partition(": ")[2].split("…")[0].strip() or "WARNING:"
        to.need("kmsg")
        to.line(f"return logged({quoted(words[:_WORDS])}) ? 1 : 0;")
    elif shows.kind == "audit" or not to.made.seen_inside:
        to.made.seen_inside = False
        _outside(to)
    elif not to.made.lines[-1].startswith("return "):
        to.line("return 0;")


def _outside(to: Context) -> None:
    """Say what to look at from outside, and wait."""
    to.line(f'printf("%s\\n", {quoted(f"only from outside can be seen: {to.script.shows}")});')
    known = [place.start for place in to.values.areas.values()]
    rest = {f"{name}.area": place for name, place in to.values.inserted.items() if place.start not in known}
    for name, place in {**to.values.areas, **rest}.items():
        told = f'"  {name}: %p, {place.pages} pages of process %d\\n"'
        to.line(f"printf({told}, (void *)({place.start}), getpid());")
    if to.child:
        to.line(f'printf("  {to.child}: process %d\\n", {to.child}.pid);')
    told = quoted(f"look at page tables and struct pages, {_WHERE}; Enter ends it")
    to.line(f'printf("%s\\n", {told});', "fflush(stdout);", "getchar();", "return 2;")
