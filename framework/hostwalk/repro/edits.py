"""Edits that make a script smaller: a step less, an argument less, a smaller number, a flag less."""

from __future__ import annotations

import ast
import builtins
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hostwalk.repro.write import CHAINED, EXPECTING, INDENT, double_quoted, wrapped

Path = tuple[tuple[str, int], ...]
_LETTERS = frozenset("rwx")


@dataclass(frozen=True)
class Edit:
    """Replaces the node at ``path`` below a function by other nodes; none of them removes it."""

    path: Path
    by: tuple[ast.AST, ...]

    def apply(self, function: ast.FunctionDef) -> ast.FunctionDef:
        """Return the function as edited."""
        return removed(function, [self])


def removed(function: ast.FunctionDef, edits: Sequence[Edit]) -> ast.FunctionDef:
    """Return a function with several edits made, none of which is within another."""
    made = copy.deepcopy(function)
    for edit in sorted(edits, key=lambda edit: edit.path, reverse=True):
        *above, (field, index) = edit.path
        parent: ast.AST = made
        for name, place in above:
            value = getattr(parent, name)
            parent = value[place] if isinstance(value, list) else value
        held = getattr(parent, field)
        if isinstance(held, list):
            held[index : index + 1] = copy.deepcopy(edit.by)
        else:
            setattr(parent, field, copy.deepcopy(edit.by[0]))
    _drop_orphans(made, _stored(function) - _stored(made), last_assertion(function))
    return _filled(made)


def _stored(node: ast.AST) -> set[str]:
    return {
        each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    }


def _loaded(node: ast.AST) -> set[str]:
    return {
        each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)
    }


def _drop_orphans(function: ast.FunctionDef, lost: set[str], last: ast.Assert | None) -> None:
    """Leave out what is asserted, on the way to the failure, of things that are not there any more."""
    final = ast.unparse(last) if last is not None else ""
    for block in (node for node in ast.walk(function) if isinstance(node, ast.With | ast.FunctionDef)):
        block.body = [
            node
            for node in block.body
            if not isinstance(node, ast.Assert) or not _loaded(node) & lost or ast.unparse(node) == final
        ]


def last_assertion(function: ast.FunctionDef) -> ast.Assert | None:
    """Return the assertion that a script ends with, if it ends with one."""
    found = [node for _, node in _statements(function) if isinstance(node, ast.Assert)]
    return found[-1] if found else None


def attributes_of(function: ast.FunctionDef, name: str) -> set[str]:
    """Return the attributes that a function uses of what has a name."""
    uses = (node for node in ast.walk(function) if isinstance(node, ast.Attribute))
    return {node.attr for node in uses if isinstance(node.value, ast.Name) and node.value.id == name}


def _filled(function: ast.FunctionDef) -> ast.FunctionDef:
    """Give blocks that have become empty a body."""
    for node in ast.walk(function):
        if isinstance(node, ast.With | ast.FunctionDef) and not node.body:
            node.body.append(ast.Pass())
    return ast.fix_missing_locations(function)


def steps(function: ast.FunctionDef) -> list[Edit]:
    """Return the removal of each step: statements that are no blocks, and blocks that expect an error."""
    return [
        Edit(path, ())
        for path, node in _statements(function)
        if not isinstance(node, ast.With | ast.Assert) or is_expectation(node)
        if not _is_within_expectation(function, path)
    ]


def count(function: ast.FunctionDef) -> int:
    """Return how many statements a function has."""
    return sum(not isinstance(node, ast.Pass) for _, node in _statements(function))


def is_expectation(node: ast.AST) -> bool:
    """Whether a statement is a block whose content must be refused, or fault."""
    if not isinstance(node, ast.With):
        return False
    call = node.items[0].context_expr
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in EXPECTING


def _is_within_expectation(function: ast.FunctionDef, path: Path) -> bool:
    node: ast.AST = function
    for field, index in path[:-1]:
        value = getattr(node, field)
        node = value[index] if isinstance(value, list) else value
        if is_expectation(node):
            return True
    return False


def edits(function: ast.FunctionDef) -> Iterator[Edit]:
    """Yield every single edit, the larger ones first.

    What is promised stays as it is: assertions, the calls whose results the last one names, and what a block expects
    to be refused or to fault. Else another call, which is right to do what it does, could take a failure's place.
    """
    for path, node in reversed(list(_statements(function))):
        if isinstance(node, ast.Assert) or _is_within_expectation(function, path):
            continue
        if not any(isinstance(each, ast.Assert) for each in ast.walk(node)):
            yield Edit(path, ())
        if isinstance(node, ast.With) and not is_expectation(node):
            yield Edit(path, tuple(node.body))
            yield from _plain(path, node)
    last = last_assertion(function)
    for path, part in _nodes(function, (), _loaded(last) if last is not None else set()):
        yield from _smaller(path, part)


def _plain(path: Path, node: ast.With) -> Iterator[Edit]:
    """Make the result of a block's call a plain name: the block's end is not done any more."""
    item = node.items[0]
    if isinstance(item.optional_vars, ast.Name):
        target = ast.Name(item.optional_vars.id, ast.Store())
        yield Edit(path, (ast.Assign([target], item.context_expr), *node.body))


def _smaller(path: Path, node: ast.AST) -> Iterator[Edit]:
    match node:
        case ast.Call(func=ast.Attribute(value=inner, attr=method)) if method in CHAINED and isinstance(
            inner, ast.Call
        ):
            yield Edit(path, (inner,))
        case ast.keyword(arg=str()):
            yield Edit(path, ())
        case ast.Subscript(value=inner, slice=ast.Slice()):
            yield Edit(path, (inner,))
        case ast.Constant(value=bool()):
            return
        case ast.Constant(value=int() as number):
            yield from (Edit(path, (ast.Constant(less),)) for less in _numbers(number))
        case ast.Constant(value=str() as text):
            yield from (Edit(path, (ast.Constant(less),)) for less in _texts(text))
        case ast.Tuple(elts=parts) if len(parts) > 1:
            yield from (Edit((*path, ("elts", index)), ()) for index in range(len(parts)))


def _numbers(number: int) -> list[int]:
    """Return smaller numbers worth a try, the smallest first."""
    tries = (0, 1, number // 2, number - 1)
    return [less for less in dict.fromkeys(tries) if 0 <= less < number]


def _texts(text: str) -> list[str]:
    """Return a protection with a letter less, or flags with one less."""
    if "|" in text:
        parts = text.split("|")
        return ["|".join(parts[:at] + parts[at + 1 :]) for at in range(len(parts))]
    if len(text) > 1 and set(text) <= _LETTERS:
        return [text[:at] + text[at + 1 :] for at in range(len(text))]
    return []


def _statements(function: ast.FunctionDef) -> Iterator[tuple[Path, ast.stmt]]:
    def below(body: list[ast.stmt], above: Path) -> Iterator[tuple[Path, ast.stmt]]:
        for index, node in enumerate(body):
            path = (*above, ("body", index))
            yield path, node
            if isinstance(node, ast.With):
                yield from below(node.body, path)

    return below(function.body, ())


def _nodes(node: ast.AST, above: Path, promised: set[str]) -> Iterator[tuple[Path, ast.AST]]:
    """Yield all parts of a function's body but those that are promised: see :func:`edits`."""
    for field, value in ast.iter_fields(node):
        if field in ("decorator_list", "args", "returns") and isinstance(node, ast.FunctionDef):
            continue
        for index, part in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(part, ast.AST) and not _is_promised(part, promised):
                path = (*above, (field, index))
                yield path, part
                yield from _nodes(part, path, promised)


def _is_promised(node: ast.AST, promised: set[str]) -> bool:
    match node:
        case ast.Assert() | ast.expr_context():
            return True
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.withitem(optional_vars=ast.Name(id=name)):
            return name in promised
    return is_expectation(node)


def is_sound(function: ast.FunctionDef, known: frozenset[str]) -> bool:
    """Whether every name has a value where it is used; ``known`` are those of the module."""
    names = {*known, *dir(builtins), *(arg.arg for arg in function.args.args)}
    return _sound(function.body, names)


def _sound(body: Sequence[ast.stmt], names: set[str]) -> bool:
    for node in body:
        heads: list[ast.AST] = list(node.items) if isinstance(node, ast.With) else [node]
        bound = set().union(*map(_stored, heads))
        used = set().union(*map(_loaded, heads))
        loops = any(isinstance(each, ast.comprehension) for head in heads for each in ast.walk(head))
        if used - names - (bound if loops else set()):
            return False
        names |= bound
        if isinstance(node, ast.With) and not _sound(node.body, names):
            return False
    return True


def tidied(function: ast.FunctionDef) -> ast.FunctionDef:
    """Return a function without names that nothing uses."""
    made = copy.deepcopy(function)
    used = {
        node.id for node in ast.walk(made) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    for node in ast.walk(made):
        if isinstance(node, ast.withitem) and isinstance(node.optional_vars, ast.Name):
            node.optional_vars = node.optional_vars if node.optional_vars.id in used else None
    return _Unnaming(used).visit(made)  # type: ignore[no-any-return]


class _Unnaming(ast.NodeTransformer):
    def __init__(self, used: set[str]) -> None:
        self._used = used

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        target = node.targets[0]
        if isinstance(target, ast.Name) and target.id not in self._used:
            return ast.copy_location(ast.Expr(node.value), node)
        return node


def with_function(text: str, old: ast.FunctionDef, new: ast.FunctionDef) -> str:
    """Return a script's text with another body of its function; all else stays as it stands."""
    lines = text.splitlines()
    written = ast.unparse(ast.Module(new.body, [])).splitlines()
    body = [wrapped(INDENT + line) for line in double_quoted("\n".join(written)).splitlines()]
    first, last = old.body[0].lineno - 1, old.body[-1].end_lineno
    return "\n".join([*lines[:first], *body, *lines[last:]]) + "\n"
