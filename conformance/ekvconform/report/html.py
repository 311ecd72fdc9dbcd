"""Renders one self-contained HTML page, of one program or of several side by side."""

from collections.abc import Collection, Sequence
from typing import Final

from ekvexplain.clauses import load_clauses
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ekvconform.cases.carriers import carry
from ekvconform.cases.errors import UsageError
from ekvconform.cases.loading import load_cases
from ekvconform.cases.variation import varied_cases
from ekvconform.report.formats import verdict_words
from ekvconform.report.records import (
    ALL_VERDICTS,
    AS_EXPECTED,
    Report,
    Row,
    count_matrix,
    describe_cause,
    describe_parts,
)

TEMPLATE: Final = "page.html.j2"


def render_page(reports: Sequence[Report]) -> str:
    """Render the page. Raises `UsageError` if the suites differ, or two programs have the same name."""
    suites = {(report.header["suite"], report.header["suite_sha256"]) for report in reports}
    if len(suites) != 1:
        versions = sorted(f"{version} ({sha256[:12]})" for version, sha256 in suites)
        raise UsageError(f"the reports are of different suites: versions {', '.join(versions)}")
    names = [report.program for report in reports]
    if len(set(names)) != len(names):
        raise UsageError(f"two reports are of one program: {', '.join(names)}; `ekvconform run --name` gives another")
    # The output of programs is not trusted, so everything but the template is escaped.
    environment = Environment(
        loader=PackageLoader("ekvconform.report", "."), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["code"] = render_code
    matrices = [count_matrix(report.rows) for report in reports]
    chapters = dict.fromkeys(chapter for _, matrix in matrices for chapter, _ in matrix)
    return environment.get_template(TEMPLATE).render(
        reports=reports,
        words=[verdict_words(report) for report in reports],
        matrices=[(shown, dict(matrix)) for shown, matrix in matrices],
        chapters=list(chapters),
        cases=_cases(reports),
        verdicts=[each for each in ALL_VERDICTS if any(each in shown for shown, _ in matrices)],
        as_expected=AS_EXPECTED,
        clauses=load_clauses(),
        describe=describe_cause,
        parts=describe_parts,
        snapshots=_snapshots({row["id"] for report in reports for row in report.unexpected}, reports[0]),
    )


def render_code(text: str) -> Markup:
    """Render a text, with what stands between backticks as code."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if number % 2 else escape(piece) for number, piece in enumerate(pieces)
    )


def _cases(reports: Sequence[Report]) -> list[tuple[Row, list[Row | None]]]:
    """Return, for each case in order, one of its rows and the row of each report."""
    by_report = [{row["id"]: row for row in report.rows} for report in reports]
    ids = dict.fromkeys(row["id"] for report in reports for row in report.rows)
    return [
        (next(rows[case_id] for rows in by_report if case_id in rows), [rows.get(case_id) for rows in by_report])
        for case_id in ids
    ]


def _snapshots(wanted: Collection[str], report: Report) -> dict[str, str]:
    """Return annotated hex of the snapshots of cases, as the program of a report was given them."""
    carrier, seed = report.header["carrier"], report.header.get("seed", "")
    cases = varied_cases([case for case in load_cases() if case.id in wanted], seed)
    return {case.id: carry(case, carrier).annotated for case in cases}
