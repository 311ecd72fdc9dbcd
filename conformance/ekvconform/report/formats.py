"""Renders reports for machines and CI: JUnit, Markdown, a badge, annotations."""

import json
import re
from collections.abc import Iterator
from typing import Final

from ekvexplain.clauses import load_clauses
from junitparser import Error, Failure, JUnitXml, Properties, Property, Skipped, TestCase, TestSuite

from ekvconform.judge.known_failures import XFAIL
from ekvconform.judge.verdicts import PASS, UNSUPPORTED, VOID
from ekvconform.report.records import AS_EXPECTED, Report, Row, count_matrix, counted, describe_cause, describe_parts

NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML cannot contain."""
MAX_ANNOTATIONS: Final = 10
"""Annotations that GitHub shows of one step."""
MAX_DETAILS: Final = 50
"""Failures that a summary lists."""


def render_junit(report: Report) -> str:
    """Render JUnit XML: a suite a chapter, a test a case. Known failures and unsupported cases are skipped."""
    document = JUnitXml(NOT_XML.sub("?", report.program))
    for chapter, _ in count_matrix(report.rows)[1]:
        suite = TestSuite(chapter)
        for row in report.rows:
            if row["chapter"] == chapter:
                suite.add_testcase(_junit_case(row))
        document.add_testsuite(suite)
    return str(document.tostring().decode())


def _junit_case(row: Row) -> TestCase:
    test = TestCase(row["id"], f"ekvconform.{row['chapter']}", row["seconds"] or 0)
    message = NOT_XML.sub("?", f"{row['verdict']}: {main_difference(row)}")
    result: Error | Skipped | Failure
    if row["verdict"] == VOID:
        result = Error(message, VOID)
    elif row["verdict"] in (UNSUPPORTED, XFAIL):
        result = Skipped(message)
    else:
        result = Failure(message, row["verdict"])
    if row["verdict"] != PASS:
        result.text = NOT_XML.sub("?", "\n".join(lines_of(row)))
        test.result = [result]
    if row["stderr"]:
        test.system_err = NOT_XML.sub("?", row["stderr"])
    properties = Properties()
    properties.append(Property("clauses", " ".join(row["clauses"])))
    properties.append(Property("level", row["level"]))
    test.append(properties)
    return test


def main_difference(row: Row) -> str:
    """Render the first difference of a case in one line."""
    for each in (*row["differences"], *row["deviations"]):
        return f"{each['place']}: expected {each['expected']}, found {each['found']}"
    return f"expected {row['expected']}, found {row['found']}"


def lines_of(row: Row) -> Iterator[str]:
    """Yield the differences of a case, the clauses that it violates, and how to reproduce it."""
    for difference in (*row["differences"], *row["deviations"]):
        yield f"{difference['place']}: expected {difference['expected']}, found {difference['found']}"
        yield from (f"    {line}" for line in difference["bytes"])
    clauses = load_clauses()
    for name in row["broken"] or row["clauses"]:
        if name in clauses:
            yield f"{name} ({clauses[name].level}): {clauses[name].text}"
    yield row["repro"]


def render_markdown(report: Report) -> str:
    """Render a summary for CI."""
    shown, matrix = count_matrix(report.rows)
    good = report.footer["as_expected"]
    lines = [
        f"## {'✅' if good else '❌'} {_cell(report.program)}: {verdict_words(report)}",
        "",
        f"Suite {report.header['suite']} of the ekvdump format, {counted(report.header['cases'], 'case')}.",
        "",
        *_markdown_causes(report),
        f"| chapter | {' | '.join(shown)} |",
        f"|---|{'---:|' * len(shown)}",
    ]
    lines += [f"| {chapter} | {' | '.join(str(count or '') for count in counts)} |" for chapter, counts in matrix]
    lines += [f"\nStale line of the known failures: {_cell(line)}" for line in report.footer["stale"]]
    lines += ["", "What this run did not prove:", "", *(f"- {_cell(line)}" for line in report.footer["not_proved"])]
    return "\n".join(lines) + "\n"


def _markdown_causes(report: Report) -> list[str]:
    """Render a table of causes, each with its rule and its smallest case."""
    if not report.causes:
        return []
    clauses = load_clauses()
    lines = ["| cause | what the spec says | example |", "|---|---|---|"]
    for cause in report.causes[:MAX_DETAILS]:
        row = report.row_of(cause["example"])
        parts = describe_parts(cause)
        words = f"**{_cell(describe_cause(cause))}**{f' ({_cell(parts)})' if parts else ''}"
        lines.append(
            f"| {words} | {_cell(clauses[cause['clause']].text)} | `{row['id']}`: {_cell(main_difference(row))} |"
        )
    if len(report.causes) > MAX_DETAILS:
        lines += ["", f"{len(report.causes) - MAX_DETAILS} more are not listed here."]
    return [*lines, "", f"`{report.row_of(report.causes[0]['example'])['repro']}`", ""]


def _cell(text: str, limit: int = 200) -> str:
    """Escape a text for a cell of a table."""
    text = " ".join(text.split())
    text = text if len(text) <= limit else text[:limit] + " ..."
    return re.sub(r"([\\`*_{}\[\]<>|#!])", r"\\\1", text)


def verdict_words(report: Report) -> str:
    """Summarize a run."""
    if not report.footer["as_expected"]:
        causes, stale = counted(len(report.causes), "cause"), counted(len(report.footer["stale"]), "stale line")
        words = f"{len(report.unexpected)} of {counted(len(report.rows), 'case')} not as expected"
        return f"{words}, {causes}" + (f", {stale}" if report.footer["stale"] else "")
    counts = report.footer["verdicts"]
    others = ", ".join(f"{counts[name]} {name}" for name in sorted(AS_EXPECTED - {PASS}) if counts.get(name))
    every = "1 case" if len(report.rows) == 1 else f"all {len(report.rows)} cases"
    return f"{every} as expected" + (f" ({others})" if others else "")


def render_badge(report: Report) -> str:
    """Render the JSON that a badge service reads (the `endpoint` kind of shields)."""
    passed, asked = report.footer["verdicts"].get(PASS, 0), len(report.rows)
    good = report.footer["as_expected"]
    color = "red" if not good else "brightgreen" if passed == asked else "yellow"
    selection = " (selection)" if report.header["is_selection"] else ""
    message = f"{passed}/{asked} cases{selection}, suite {report.header['suite']}"
    return json.dumps({"schemaVersion": 1, "label": "ekvdump format", "message": message, "color": color}) + "\n"


def iter_annotations(report: Report) -> Iterator[str]:
    """Yield lines that a GitHub workflow shows as errors."""
    for cause in report.causes[:MAX_ANNOTATIONS]:
        title = _annotated(describe_cause(cause), is_property=True)
        row = report.row_of(cause["example"])
        words = _annotated(f"{row['id']}: {main_difference(row)}")
        yield f"::error title={title}::{words}"
    if len(report.causes) > MAX_ANNOTATIONS:
        yield f"::error title=ekvconform::{counted(len(report.causes) - MAX_ANNOTATIONS, 'more cause')}"
    for line in report.footer["stale"]:
        yield f"::error title=stale known failure::{_annotated(line)}"


def _annotated(text: str, *, is_property: bool = False) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if is_property else text
