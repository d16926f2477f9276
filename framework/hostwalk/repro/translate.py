"""From the steps of a script to statements of C: only what subjects do has a counterpart there."""

from __future__ import annotations

import ast
import copy
import re

from hostwalk.repro import cending, cinsert, csettings, csteps
from hostwalk.repro.ccalls import GUP
from hostwalk.repro.ccontext import Context, Translation
from hostwalk.repro.csight import Sight
from hostwalk.repro.ctext import quoted, taken
from hostwalk.repro.cvalues import Renaming, Values, method_of, owner_of, said, text_of
from hostwalk.repro.edits import is_expectation
from hostwalk.repro.script import Script

_USED = ("must", "scratch", "map", "turned")
_TEXT = re.compile(r'"(?:\\.|[^"\\])*"')


def translate(script: Script) -> Translation:
    """Return a script's function in C; raises UsageError for a step that has no counterpart."""
    renamed = script.with_function(Renaming(taken()).visit(copy.deepcopy(script.function)))
    values = Values(script.path)
    sight = Sight(values, cinsert.may_be_pfnmaps(renamed.function))
    return _Translator(Context(renamed, values, sight)).translate()


def _without_unused(made: Translation) -> None:
    """Drop the variables of results that nothing uses."""
    for declared in list(made.declarations):
        name = declared.rstrip(";").split()[-1].lstrip("*")
        uses = [line for line in made.all_lines if re.search(rf"\b{re.escape(name)}\b", _TEXT.sub("", line))]
        if len(uses) == 1 and uses[0].lstrip().startswith(f"{name} = "):
            made.declarations.remove(declared)
            made.replace(uses[0], uses[0].replace(f"{name} = ", "", 1))


class _Translator:
    def __init__(self, to: Context) -> None:
        self._to = to

    def translate(self) -> Translation:
        made = self._to.made
        self._to.line("page = sysconf(_SC_PAGESIZE);")
        self._body(self._to.script.function.body)
        with self._to.step_of(""):
            cending.ending(self._to)
        _without_unused(made)
        text = "\n".join(made.all_lines)
        self._to.need(*(["hasflag"] if "has_flag(" in text else []))
        self._to.need(*(helper for helper in _USED if re.search(rf"\b{helper}\b", text)))
        return made

    def _body(self, body: list[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.With) and not is_expectation(node):
                self._block(node)
                continue
            with self._to.step_of(self._to.doer(node)):
                self._statement(node)

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Pass():
                return
            case ast.With():
                self._expectation(node)
            case ast.Assert():
                cending.asserted(self._to, node)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call):
                self._call(node, call, name)
            case ast.Expr(value=ast.Call() as call):
                self._call(node, call, "")
            case _:
                raise self._to.values.no(node)

    def _call(self, node: ast.stmt, call: ast.Call, name: str) -> None:
        if node is cending.failing(self._to):
            self._fail(call)
        elif method_of(call) in ("fork", "thread"):
            self._duplicate(call, name)
        else:
            csteps.step(self._to, call, name)

    def _fail(self, call: ast.Call) -> None:
        """Do the step that fails; of a mapping that is refused, what it had to be for is not done."""
        inner = call.args[0] if method_of(call) == "must" else call
        is_refused = self._to.script.shows.kind == "refused"
        while is_refused and isinstance(inner, ast.Call) and method_of(inner) in csteps.ACCESSES:
            inner = inner.func.value if isinstance(inner.func, ast.Attribute) else inner.func
        if not isinstance(inner, ast.Call):
            raise self._to.values.no(call)
        (cending.refused if is_refused else cending.faulted)(self._to, inner)

    def _duplicate(self, call: ast.Call, name: str) -> str:
        """Make a child or a thread; raises UsageError where there is one already that steps would wait for."""
        to, kind = self._to, method_of(call)
        waits = to.child or (kind == "fork" and to.made.threads)
        if call.args or call.keywords or owner_of(call) != "subject" or waits:
            raise to.values.no(call)
        name = name or to.fresh({"fork": "child"}.get(kind, kind))
        if kind == "fork":
            to.need("turns")
            to.declare(f"struct child {name};")
            to.line(f"{name} = fork_child();")
            to.child = name
        else:
            to.need("threads")
            to.declare(f"struct thread {name};")
            to.line(f"start_thread(&{name}, {name}_steps);")
            to.made.threads[name] = []
        return name

    def _block(self, node: ast.With) -> None:
        item = node.items[0]
        name = item.optional_vars.id if isinstance(item.optional_vars, ast.Name) else ""
        call = item.context_expr
        if len(node.items) > 1 or not isinstance(call, ast.Call):
            raise self._to.values.no(node)
        method = method_of(call)
        if method in ("fork", "thread"):
            name = self._duplicate(call, name)
            self._body(node.body)
            self._end(node, f"end_{'child' if method == 'fork' else method}", name)
        elif method in GUP:
            self._pinned(node, call, name or self._to.fresh("pins"))
        elif method in csettings.BLOCKS and owner_of(call) == "subject":
            self._set(node, call, name)
        else:
            raise self._to.values.no(call)

    def _end(self, node: ast.With, function: str, name: str) -> None:
        if cending.holds(self._to, node):
            return
        self._to.need(function.replace("_", ""))
        self._to.line(f"{function}(&{name});")
        self._to.child = ""

    def _pinned(self, node: ast.With, call: ast.Call, name: str) -> None:
        with self._to.step_of(self._to.doer(call)):
            csteps.step(self._to, call, name)
        self._body(node.body)
        if not cending.holds(self._to, node):
            with self._to.step_of(""):
                csteps.release(self._to, name)

    def _set(self, node: ast.With, call: ast.Call, name: str) -> None:
        method = method_of(call)
        with self._to.step_of(""):
            csettings.begin(self._to, call, name, method)
        self._body(node.body)
        if not cending.holds(self._to, node):
            with self._to.step_of(""):
                csettings.end(self._to, method)

    def _expectation(self, node: ast.With) -> None:
        to, call = self._to, node.items[0].context_expr
        *before, last = node.body
        for each in before:
            self._statement(each)
        if (
            not isinstance(call, ast.Call)
            or not isinstance(last, ast.Expr)
            or not isinstance(last.value, ast.Call)
        ):
            raise to.values.no(node)
        if method_of(call) == "refuses":
            text = self._refusal(call, last.value)
        else:
            text = cending.expected_fault(to, call, last.value)
        to.line(f"if (!{text})", f"\treturn {1 if node is cending.failing(to) else 3};")

    def _refusal(self, expected: ast.Call, call: ast.Call) -> str:
        helpers = {1: "refused", 2: "refused_either"}
        errors = [text_of(error) for error in expected.args]
        if len(errors) not in helpers:
            raise self._to.values.no(expected)
        helper, made = helpers[len(errors)], csteps.expression(self._to, call)
        self._to.need(helper.replace("_", ""))
        return f"{helper}({made}, {', '.join(errors)}, {quoted(said(call))})"
