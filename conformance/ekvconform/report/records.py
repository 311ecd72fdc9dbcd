"""Makes the records that every report is rendered from; reads and writes JSONL (`report.schema.json`)."""

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ekvconform.cases.clauses import load_clauses
from ekvconform.cases.errors import UsageError
from ekvconform.cases.golden_cases import FINDINGS, REFUSED, Expected
from ekvconform.cases.suite import Suite
from ekvconform.judge.known_failures import XFAIL, XPASS
from ekvconform.judge.verdicts import PASS, UNSUPPORTED, VERDICTS, VOID, Judgement, first_line
from ekvconform.run.profiles import Profile

Row = dict[str, Any]
AS_EXPECTED: Final = frozenset((PASS, UNSUPPORTED, XFAIL))
"""Verdicts that do not make a run red."""
ALL_VERDICTS: Final = (*VERDICTS, XFAIL, XPASS)
MANY: Final = 5
"""With more runs than this, identical endings are suspicious."""
MAX_OUTPUT: Final = 4000
"""Characters of the output of a program that are kept."""
SCHEMA_NAME: Final = "report.schema.json"
FORMAT: Final = 1
"""Version of the format."""


@dataclass(frozen=True, slots=True)
class Report:
    """One run of one program."""

    header: Row
    rows: tuple[Row, ...]
    footer: Row

    @property
    def program(self) -> str:
        """The program's name."""
        return str(self.header["program"])

    @property
    def unexpected(self) -> list[Row]:
        """Rows that make the run red."""
        return [row for row in self.rows if row["verdict"] not in AS_EXPECTED]


class BrokenReportError(UsageError):
    """Raised for a file that is not a report, or a truncated one."""


def make_report(
    judgements: Sequence[Judgement],
    profile: Profile,
    suite: Suite,
    total: int,
    stale: Iterable[str],
    command: Sequence[str],
) -> Report:
    """Make a report of a run; `command` is its command line, without the selection."""
    rows = tuple(make_row(judgement, command) for judgement in judgements)
    header = {
        "report": "ekvconform",
        "format": FORMAT,
        "program": profile.name,
        "suite": suite.version,
        "suite_sha256": suite.sha256,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cases": len(rows),
    }
    footer = {
        "verdicts": dict(sorted(Counter(row["verdict"] for row in rows).items())),
        "as_expected": all(row["verdict"] in AS_EXPECTED for row in rows) and not list(stale),
        "stale": list(stale),
        "not_proved": _not_proved(rows, profile, total),
    }
    return Report(header, rows, footer)


def make_row(judgement: Judgement, command: Sequence[str]) -> Row:
    """Make the row of a case; `command` is the command line of the run, without the selection."""
    case, finish = judgement.case, judgement.finish
    return {
        "id": case.id,
        "chapter": case.chapter,
        "title": case.title,
        "clauses": list(case.clauses),
        "level": case.level,
        "verdict": judgement.verdict,
        "expected": " or ".join(describe_expected(each) for each in case.allowed),
        "found": _found(judgement),
        "broken": [] if judgement.verdict in AS_EXPECTED else _broken(judgement),
        "differences": [
            {
                "place": each.place,
                "expected": each.expected,
                "found": each.found,
                "bytes": list(each.bytes_),
                "clause": each.clause,
            }
            for each in judgement.differences
        ],
        "unmapped": judgement.unmapped,
        "exit_status": finish.exit_status if finish else None,
        "stdout": finish.stdout[:MAX_OUTPUT] if finish else "",
        "stderr": finish.stderr[:MAX_OUTPUT] if finish else "",
        "seconds": round(finish.seconds, 4) if finish else None,
        "repro": shlex.join(["ekvconform", "repro", case.id, *command]),
    }


def describe_expected(expected: Expected) -> str:
    """Summarize what is expected."""
    if expected.outcome == REFUSED:
        place = "" if expected.offset is None else f" at offset {expected.offset}"
        return f"refused: {expected.fault} [{expected.clause}]{place}"
    if expected.outcome == FINDINGS:
        return "findings: " + ", ".join(expected.findings)
    return expected.outcome


def _broken(judgement: Judgement) -> list[str]:
    """Return the clauses that a failure violates: those of its differences, else those of the case."""
    found: list[str] = []
    for each in judgement.differences:
        found += [each.clause] if each.clause else judgement.case.clauses
    return list(dict.fromkeys(found))


def _found(judgement: Judgement) -> str:
    if judgement.differences:
        return "; ".join(f"{each.place}: {each.found}" for each in judgement.differences)
    return "as expected"


def _not_proved(rows: Sequence[Row], profile: Profile, total: int) -> list[str]:
    """List what a run did not prove: what did not run and why, and what was not compared."""
    lines = []
    if len(rows) < total:
        lines.append(f"{total - len(rows)} of {total} cases were not selected")
    lacking = Counter(row["differences"][0]["found"] for row in rows if row["verdict"] == UNSUPPORTED)
    lines += [f"{count} cases did not run: {why}" for why, count in sorted(lacking.items())]
    unmapped = sum(row["unmapped"] is not None for row in rows)
    if unmapped:
        lines.append(f"the reasons of {unmapped} refusals were not compared: the profile does not map their messages")
    ran = [row for row in rows if row["verdict"] not in (UNSUPPORTED, VOID)]
    endings = {(row["exit_status"], first_line(row["stderr"])) for row in ran}
    if len(ran) > MANY and len(endings) == 1 and ran[0]["exit_status"]:
        status, line = endings.pop()
        lines.append(f"every run ended with exit status {status} and printed `{line[:200]}`: is the command right?")
    if ran and not profile.warnings:
        lines.append("warnings were not compared: the profile does not map them")
    if any(row["expected"].startswith("findings") for row in ran) and not profile.findings:
        lines.append("findings were not compared, except that there are some: the profile does not map them")
    musts = {clause.id for clause in load_clauses().values() if clause.level == "MUST"}
    kept = musts & {clause for row in ran for clause in row["clauses"]}
    lines.append(f"{len(kept)} of {len(musts)} MUST clauses have a case that ran")
    return lines


def broken_clauses(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Return clause = its cases that are not as expected, in the order of the spec."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["verdict"] not in AS_EXPECTED:
            for clause in row["broken"]:
                found.setdefault(clause, []).append(row["id"])
    order = list(load_clauses())
    return dict(sorted(found.items(), key=lambda each: order.index(each[0]) if each[0] in order else len(order)))


def count_matrix(rows: Iterable[Row]) -> tuple[list[str], list[tuple[str, list[int]]]]:
    """Return the verdicts that occur, and their counts by chapter."""
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        counts.setdefault(row["chapter"], Counter())[row["verdict"]] += 1
    shown = [verdict for verdict in ALL_VERDICTS if any(each[verdict] for each in counts.values())]
    order = list(dict.fromkeys(each[:4].lower() for each in load_clauses()))
    chapters = sorted(counts, key=lambda each: order.index(each) if each in order else len(order))
    return shown, [(chapter, [counts[chapter][verdict] for verdict in shown]) for chapter in chapters]


# ---- JSONL ----


def iter_jsonl(report: Report) -> Iterator[str]:
    """Yield a header, an object a case, and a footer, so that a truncated report is detected."""
    for row in (report.header, *report.rows, report.footer):
        # ASCII, because lone surrogates must be escaped.
        yield json.dumps(row, ensure_ascii=True) + "\n"


def load_report(path: Path) -> Report:
    """Read a JSONL report. Raises `BrokenReportError`."""
    import jsonschema

    schema = json.loads(Path(__file__).with_name(SCHEMA_NAME).read_text(encoding="utf-8"))
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        parts = ["header", *["row"] * (len(lines) - 2), "footer"]
        if len(lines) < len(parts):
            raise BrokenReportError(f"{path}: not a whole report")
        for number, (line, part) in enumerate(zip(lines, parts, strict=True), 1):
            problem = jsonschema.Draft202012Validator({**schema, "oneOf": [{"$ref": f"#/$defs/{part}"}]})
            if error := next(problem.iter_errors(line), None):
                raise BrokenReportError(f"{path}: line {number} is not a {part}: {error.message[:200]}")
    except (OSError, ValueError, RecursionError) as error:
        raise BrokenReportError(f"{path}: not a report: {type(error).__name__}: {error}") from error
    header, *rows, footer = lines
    if header["cases"] != len(rows):
        raise BrokenReportError(f"{path}: {header['cases']} cases announced, {len(rows)} found")
    if footer["verdicts"] != dict(Counter(row["verdict"] for row in rows)):
        raise BrokenReportError(f"{path}: the counts of verdicts in the last line are wrong")
    if len({row["id"] for row in rows}) != len(rows):
        raise BrokenReportError(f"{path}: a case occurs twice")
    return Report(header, tuple(rows), footer)
