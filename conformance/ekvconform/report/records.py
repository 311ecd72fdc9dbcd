"""Makes the records that every report is rendered from; reads and writes JSONL (`report.schema.json`)."""

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ekvexplain.clauses import load_clauses

from ekvconform.cases.errors import UsageError
from ekvconform.cases.golden_cases import FINDINGS, REFUSED, Case, Expected
from ekvconform.cases.suite import Suite
from ekvconform.judge.carrier_probes import Carriers
from ekvconform.judge.causes import find_causes
from ekvconform.judge.differences import Difference
from ekvconform.judge.known_failures import XFAIL, XPASS, Applied
from ekvconform.judge.verdicts import PASS, UNSUPPORTED, VERDICTS, VOID, Judgement, first_line
from ekvconform.run.profiles import Profile

Row = dict[str, Any]
AS_EXPECTED: Final = frozenset((PASS, UNSUPPORTED, XFAIL))
"""Verdicts that do not make a run red."""
ALL_VERDICTS: Final = (*VERDICTS, XFAIL, XPASS)
MANY: Final = 5
"""With more runs than this, identical endings are suspicious."""
MAX_FORMS: Final = 3
"""Forms of a cause that its summary names."""
LEADS: Final = {
    "payloads": "payload: ", "keymap": "KEYMAP.jsonl: ", "modes": "mode ", "checksums": "CHECKSUMS: ",
    "unreadable": "unreadable.jsonl: ", "warnings": "warning ", "findings": "finding ", "manifest": "MANIFEST.json: ",
    "counters": "counter ", "form": "MANIFEST.json: ", "reason": "reason: ", "leftovers": "refused, and ",
}  # fmt: skip
"""Aspect = how a summary begins, where its forms do not speak for themselves."""
READABLE: Final = "the program could read the fixtures: this machine does not permit mount namespaces"
MAX_OUTPUT: Final = 4000
"""Characters of the output of a program that are kept."""
SCHEMA_NAME: Final = "report.schema.json"
FORMAT: Final = 2
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
        """Rows whose verdicts make the run red."""
        return [row for row in self.rows if row["verdict"] not in AS_EXPECTED]

    @property
    def causes(self) -> list[Row]:
        """What is not as expected, by cause."""
        found: list[Row] = self.footer["causes"]
        return found

    def row_of(self, case_id: str) -> Row:
        """Return the row of a case."""
        return next(row for row in self.rows if row["id"] == case_id)


class BrokenReportError(UsageError):
    """Raised for a file that is not a report, or a truncated one."""


def make_report(
    judgements: Sequence[Judgement],
    applied: Applied,
    profile: Profile,
    suite: Suite,
    total: int,
    carriers: Carriers,
    command: Sequence[str],
    seed: str = "",
    *,
    is_hidden: bool = True,
) -> Report:
    """Make a report of a run: its judgements, as they are and as a list of known failures sees them.

    `total` is the number of cases of the suite, `command` the command line without the selection, `seed` what the
    cases were varied with, if they were, and `is_hidden` says whether the program could not read the fixtures.
    """
    rows = tuple(make_row(judgement, command) for judgement in applied.judgements)
    causes = find_causes(judgements, applied, carriers.clauses)
    selected = {case_id.partition("@")[0] for case_id in (row["id"] for row in rows)}
    header = {
        "report": "ekvconform",
        "format": FORMAT,
        "program": profile.name,
        "suite": suite.version,
        "suite_sha256": suite.sha256,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cases": len(rows),
        "carrier": carriers.richest,
        "seed": seed,
        "is_selection": len(selected) < total,
    }
    footer = {
        "verdicts": dict(sorted(Counter(row["verdict"] for row in rows).items())),
        "as_expected": all(row["verdict"] in AS_EXPECTED for row in rows) and not applied.stale and not causes,
        "stale": applied.stale,
        "causes": [asdict(cause) for cause in causes],
        "not_proved": [
            *_unread(carriers),
            *_not_varied(judgements, seed),
            *([] if is_hidden else [READABLE]),
            *_not_proved(rows, profile, total - len(selected), total),
        ],
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
        "differences": [_difference(each) for each in judgement.own],
        "deviations": [_difference(each) for each in judgement.deviations],
        "unmapped": judgement.unmapped,
        "exit_status": finish.exit_status if finish else None,
        "stdout": finish.stdout[:MAX_OUTPUT] if finish else "",
        "stderr": finish.stderr[:MAX_OUTPUT] if finish else "",
        "seconds": round(finish.seconds, 4) if finish else None,
        "repro": shlex.join(["ekvconform", "repro", *_words_of(case), *command]),
    }


def _words_of(case: Case) -> list[str]:
    """Return the words that select a case, as it was varied and in its carrier."""
    varied = [f"--vary={case.seed}"] if case.seed else []
    return [case.id.partition("@")[0], *varied, *([f"--carrier={case.carrier}"] if case.carrier else [])]


def _difference(difference: Difference) -> Row:
    return {
        "aspect": difference.aspect,
        "place": difference.place,
        "expected": difference.expected,
        "found": difference.found,
        "form": difference.form,
        "bytes": list(difference.bytes_),
        "clause": difference.clause,
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
    for each in judgement.own:
        found += [each.clause] if each.clause else judgement.case.clauses
    return list(dict.fromkeys(found))


def _found(judgement: Judgement) -> str:
    if judgement.own:
        return "; ".join(f"{each.place}: {each.found}" for each in judgement.own)
    return "as expected"


def _unread(carriers: Carriers) -> list[str]:
    """Say which kinds of files were not used, and why."""
    names = [f"{carrier} ({form}; {carriers.clauses[form]})" for carrier, form in carriers.unread.items()]
    if not names:
        return []
    return [f"the cases came in the carrier {carriers.richest}: the program does not read {', '.join(names)}"]


def _not_varied(judgements: Sequence[Judgement], seed: str) -> list[str]:
    """Return a line about the cases that a run could not vary."""
    if not seed:
        return []
    same = sum(not judgement.case.seed for judgement in judgements)
    return [f"the cases were varied with --vary={seed}; {counted(same, 'case')} could not be, and ran as written"]


def counted(count: int, noun: str) -> str:
    """Render a number of things, in the singular or plural."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _not_proved(rows: Sequence[Row], profile: Profile, left_out: int, total: int) -> list[str]:
    """List what a run did not prove: what did not run and why, and what was not compared."""
    lines = []
    if left_out:
        lines.append(f"{left_out} of {total} cases {'was' if left_out == 1 else 'were'} not selected")
    lacking = Counter(row["differences"][0]["found"] for row in rows if row["verdict"] == UNSUPPORTED)
    lines += [f"{counted(count, 'case')} did not run: {why}" for why, count in sorted(lacking.items())]
    unmapped = sum(row["unmapped"] is not None for row in rows)
    if unmapped:
        reasons = "the reason of 1 refusal was" if unmapped == 1 else f"the reasons of {unmapped} refusals were"
        lines.append(f"{reasons} not compared: the profile does not map the message")
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


def describe_cause(cause: Row) -> str:
    """Summarize a cause in one line: how many cases, what differs, and the rule."""
    forms, more = cause["forms"][:MAX_FORMS], len(cause["forms"]) - MAX_FORMS
    words = "; ".join(forms) + (f"; and {more} more" if more > 0 else "")
    count = counted(len(cause["failing"]) + len(cause["deviating"]), "case")
    return f"{count}: {LEADS.get(cause['aspect'], '')}{words} [{cause['clause']}]"


def describe_parts(cause: Row) -> str:
    """Say how many cases of a cause are hidden, and how many are not about it."""
    parts = []
    if cause["hidden"]:
        parts.append(f"{counted(len(cause['hidden']), 'case')} hidden: nothing is known of their own rules")
    if cause["deviating"] and cause["failing"]:
        parts.append(f"{counted(len(cause['deviating']), 'case')} about something else")
    elif cause["deviating"]:
        parts.append("all of them about something else")
    return "; ".join(parts)


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
