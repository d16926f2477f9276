"""The page as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import hostwalk
from hostwalk.report.html import matrix
from hostwalk.report.html.markup import Child, anchor, element, joined, lines_of
from hostwalk.report.html.reasons import Reasons
from hostwalk.report.html.story import unfolded
from hostwalk.report.model import Result, Run, Verdict
from hostwalk.report.words import SIGNS, duration, word
from hostwalk.target import Target

Cells = matrix.Cells
HERE = Path(__file__).parent
TOLD = 150
"""Broken claims that are told with all that was seen; of the rest the page says what failed and how to repeat it."""
OPEN = 3
"""Up to so many broken claims are unfolded from the start."""
BRIEF = 160
WIDE, NARROW, FEW, SENTENCE = 4.5, 2.125, 6, 42
"""Widths, in rem: of a cell where there are few, and where there are many; of what stands before them."""
ORDER = (Verdict.BROKEN, Verdict.UNPROVEN, Verdict.KEPT, Verdict.DEPARTS, Verdict.NOT_APPLICABLE)
ALONE = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""What a browser may load for the page: nothing but what is in it."""
ASIDES = {
    Verdict.UNPROVEN: ("Unproven", "The infrastructure failed before a verdict."),
    Verdict.DEPARTS: ("Departures", "These kernels are known not to do what their manual page says."),
    Verdict.NOT_APPLICABLE: ("Not applicable", "Here the sentence says nothing."),
}


def text(run: Run) -> str:
    """Return the report as an HTML document."""
    root = element("html", _head(run), _body(run), lang="en")
    return f"<!doctype html>\n{ET.tostring(root, encoding='unicode', method='html')}\n"


def _head(run: Run) -> ET.Element:
    width = WIDE if len(run.targets) <= FEW else NARROW
    narrow = f"{SENTENCE + width * len(run.targets)}rem"
    style = _asset("page.css").replace("/*NARROW*/", narrow).replace("/*CELL*/", f"{width}rem")
    return element(
        "head",
        *lines_of(
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", http_equiv="Content-Security-Policy", content=ALONE),
            element("title", f"hostwalk: {_headline(run)}"),
            element("style", style),
        ),
    )


def _asset(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _body(run: Run) -> ET.Element:
    cells = matrix.numbered(run.targets)
    reasons = Reasons(run, cells)
    sections = [
        _section("broken", word(Verdict.BROKEN, sabotage=run.sabotage).capitalize(), *_broken(run, cells)),
        _section("cells", "Cells", _cells(run, cells)),
        _section("matrix", "Claims", *_matrix(run, cells)),
        *(
            _section(anchor(title), title, element("p", note, class_="quiet"), reasons.table(verdict))
            for verdict, (title, note) in ASIDES.items()
            if run.counts[verdict]
        ),
    ]
    shown = [section for section in sections if section is not None]
    body = element("body", _banner(run, shown), element("main", *lines_of(*shown)))
    body.append(element("script", _asset("page.js")))
    return body


def _section(place: str, title: str, *children: Child) -> ET.Element | None:
    """Return a section; None when there is nothing in it."""
    inside = [child for child in children if child is not None]
    return element("section", element("h2", title), *inside, id=place) if inside else None


def _headline(run: Run) -> str:
    claims = len({result.claim_id for result in run.results})
    cells = len(run.targets)
    mode = ", sabotaged," if run.sabotage else ""
    return f"{claims} claim{'' if claims == 1 else 's'}{mode} on {cells} cell{'' if cells == 1 else 's'}"


def _banner(run: Run, sections: Sequence[ET.Element]) -> ET.Element:
    counts = (_count(run, verdict) for verdict in ORDER if run.counts[verdict])
    links = (element("a", section.findtext("h2"), href=f"#{section.get('id')}") for section in sections)
    facts = f"hostwalk {hostwalk.__version__}, {duration(run.seconds)}, seed {run.seed}"
    return element(
        "header",
        element("h1", _headline(run)),
        element("p", *joined(counts, " "), class_="counts"),
        element("p", element("code", run.command, class_="command"), class_="again") if run.command else None,
        element("p", facts, class_="quiet"),
        element("nav", *joined(links, " "), aria_label="sections"),
    )


def _count(run: Run, verdict: Verdict) -> ET.Element:
    label = f"{run.counts[verdict]} {word(verdict, sabotage=run.sabotage)}"
    return element("span", element("i", SIGNS[verdict], class_=matrix.CLASSES[verdict] or "k"), f" {label}")


def _cells(run: Run, cells: Cells) -> ET.Element:
    verdicts = [verdict for verdict in ORDER if run.counts[verdict]]
    names = (word(verdict, sabotage=run.sabotage) for verdict in verdicts)
    head = element("tr", *(element("th", name, scope="col") for name in ("", "cell", "what was booted")))
    head.extend(element("th", name, scope="col", class_="right") for name in names)
    rows = (_cell(run, target, number, verdicts) for target, number in cells.items())
    made = element("table", element("thead", head), element("tbody", *lines_of(*rows)), class_="cells")
    return element("div", made, class_="wide")


def _cell(run: Run, target: Target, number: int, verdicts: Sequence[Verdict]) -> ET.Element:
    counts = Counter(result.verdict for result in run.on(target))
    booted = run.identities.get(target.name, "nothing: see Unproven")
    row = element("tr", element("td", str(number), class_="right"))
    row.append(element("th", element("code", target.name), scope="row"))
    row.append(element("td", booted, class_="quiet"))
    for verdict in verdicts:
        bad = matrix.CLASSES[verdict] if counts[verdict] else "n"
        row.append(element("td", str(counts[verdict]), class_=f"right {bad or ''}".rstrip()))
    return row


def _broken(run: Run, cells: Cells) -> Iterator[ET.Element]:
    claims = list(dict.fromkeys(result.claim_id for result in run.results))
    order = {claim_id: number for number, claim_id in enumerate(claims)}
    broken = sorted(
        run.having(Verdict.BROKEN), key=lambda result: (order[result.claim_id], cells[result.target])
    )
    names = Counter[str]()
    for result in broken[:TOLD]:
        name = _place(result, cells, names)
        title = (*_title(result), element("span", result.sentence), " ", _where(result, cells))
        body = element("div", *lines_of(*unfolded(result, name)), id=name, class_="told")
        yield element("details", element("summary", *title), body, open=len(broken) <= OPEN, class_="claim")
    if rest := broken[TOLD:]:
        yield element("p", f"{len(rest)} more, in short; --json and the commands have what was seen.")
        rows = (_briefly(result, cells, _place(result, cells, names)) for result in rest)
        yield element("table", element("tbody", *lines_of(*rows)), class_="reasons")


def _place(result: Result, cells: Cells, names: Counter[str]) -> str:
    """Return a broken claim's id in the page; the matrix leads to the first of several of one claim on one cell."""
    name = anchor("broken", result.claim_id, cells[result.target])
    names[name] += 1
    return name if names[name] == 1 else f"{name}.{names[name]}"


def _title(result: Result) -> tuple[Child, ...]:
    sign = element("i", SIGNS[Verdict.BROKEN], class_="b")
    return sign, " ", element("code", result.claim_id), " "


def _where(result: Result, cells: Cells) -> ET.Element:
    return element("small", f"{cells[result.target]}: {result.target.name}")


def _briefly(result: Result, cells: Cells, name: str) -> ET.Element:
    heading = element("th", *_title(result), _where(result, cells), scope="row", id=name)
    first = (result.reason or result.detail).strip().partition("\n")[0][:BRIEF]
    return element("tr", heading, element("td", first), element("td", element("code", result.rerun)))


def _matrix(run: Run, cells: Cells) -> Iterator[ET.Element]:
    if not run.results:
        yield element("p", "Nothing was judged.")
        return
    meanings = (_count_sign(verdict, run.sabotage) for verdict in ORDER)
    yield element("p", *joined(meanings, " "), class_="legend quiet")
    yield _filters(run)
    table = matrix.table(run, cells)
    yield element("div", table, class_="table", tabindex=0, role="region", aria_label="claims and cells")


def _count_sign(verdict: Verdict, sabotage: bool) -> ET.Element:
    sign = element("i", SIGNS[verdict], class_=matrix.CLASSES[verdict] or "k")
    return element("span", sign, f" {word(verdict, sabotage=sabotage)}")


def _filters(run: Run) -> ET.Element:
    """Return the controls; the script, which they are useless without, shows them."""
    search = element("input", type="search", placeholder="id or words", aria_label="show claims with")
    boxes = (
        element(
            "label",
            element("input", type="checkbox", value=matrix.CLASSES[verdict]),
            f" {word(verdict, sabotage=run.sabotage)}",
        )
        for verdict in ORDER
        if verdict is not Verdict.KEPT and run.counts[verdict]
    )
    return element("form", search, *joined(boxes, " "), element("output"), hidden=True, class_="filters")
