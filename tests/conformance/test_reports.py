"""Reports of the runner: all say the same, and nothing that a program prints gets out of its place."""

import contextlib
import html.parser
import json
import os
import pty
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from decoders import COMMAND, JUDGE_COMMAND
from ekvconform import cli
from ekvconform.cases.errors import UsageError
from ekvconform.cases.loading import load_cases
from ekvconform.cases.suite import load_suite
from ekvconform.judge.carrier_probes import Carriers
from ekvconform.judge.differences import Difference, differing_bytes, first_differing_line
from ekvconform.judge.known_failures import Applied
from ekvconform.judge.verdicts import VERDICTS, Judgement
from ekvconform.report.formats import iter_annotations, render_badge, render_junit, render_markdown
from ekvconform.report.html import render_page
from ekvconform.report.records import BrokenReportError, Report, iter_jsonl, load_report, make_report
from ekvconform.report.terminal import print_report
from ekvconform.run.sandbox import Finish
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "conformance" / "ekvconform" / "report" / "report.schema.json").read_text())
CASES = load_cases()
BAD_VERDICTS = ("FAIL", "UNTOLD", "WRONG_REASON", "CRASH", "HANG", "LIMIT", "ESCAPED", "XPASS")
HOSTILE = "<script>alert(1)</script> ]]> | `x` \x00\x1b[31m \ud800 ::error::no\n# head & \"quote' \\ \ufffe"


def made(verdict: str, *, number: int = 0, text: str = "", unmapped: str | None = None) -> Judgement:
    finish = Finish(4, None, False, None, text, text, 0.0123, 0)
    place, expected, found, form = (f"{word}{text}" for word in ("it", "good", "bad", "form"))
    aspect = "files" if verdict in BAD_VERDICTS else "scene"
    difference = Difference(aspect, place, expected, found, form, bytes_=("00 " + text,))
    differences = () if verdict == "PASS" else (difference,)
    return Judgement(CASES[number], verdict, differences, finish, ("decoder",), unmapped)


def report_of(*judgements: Judgement, stale: tuple[str, ...] = (), name: str = "decoder") -> Report:
    profile, applied = replace(COMMAND, name=name), Applied(list(judgements), list(stale), frozenset())
    return make_report(judgements, applied, profile, load_suite(), len(CASES), Carriers(), ["--", "decoder"])


ALL = report_of(*(made(verdict, number=number) for number, verdict in enumerate((*VERDICTS, "XFAIL", "XPASS"))))
GOOD = report_of(made("PASS"), made("UNSUPPORTED", number=1), made("XFAIL", number=2))
BAD = report_of(*(made(verdict, number=number, text=HOSTILE) for number, verdict in enumerate(VERDICTS)), name=HOSTILE)


# ---- JSONL ----


@pytest.mark.parametrize("report", [ALL, GOOD, BAD])
def test_every_line_of_a_report_holds_against_its_schema(report: Report, tmp_path: Path) -> None:
    lines = list(iter_jsonl(report))
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for line in lines:
        validator.validate(json.loads(line))
    path = tmp_path / "report.jsonl"
    path.write_text("".join(lines))
    assert load_report(path).rows == report.rows
    assert load_report(path).footer == report.footer


@pytest.mark.parametrize("size", range(len(ALL.rows) + 2))
def test_a_report_that_is_cut_is_not_taken_for_whole(size: int, tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    path.write_text("".join(list(iter_jsonl(ALL))[:size]))
    with pytest.raises(BrokenReportError):
        load_report(path)


def test_other_files_are_no_reports(tmp_path: Path) -> None:
    for text in (
        "",
        "{}\n{}\n",
        "[1]\n[2]\n",
        "no JSON\n",
        '{"report":"ekvconform","format":2,"cases":0}\n{"verdicts":{}}\n',
    ):
        (tmp_path / "x").write_text(text)
        with pytest.raises(BrokenReportError):
            load_report(tmp_path / "x")
    with pytest.raises(BrokenReportError):
        load_report(tmp_path / "missing")


def test_only_what_is_expected_is_as_expected() -> None:
    assert GOOD.footer["as_expected"]
    assert not ALL.footer["as_expected"]
    for verdict in (*VERDICTS, "XFAIL", "XPASS"):
        report = report_of(made(verdict))
        assert report.footer["as_expected"] == (verdict in ("PASS", "UNSUPPORTED", "XFAIL")), verdict
    assert not report_of(made("PASS"), stale=("line 1",)).footer["as_expected"]


def test_a_run_says_how_little_it_proved() -> None:
    words = report_of(made("PASS", unmapped="oh no"), made("UNSUPPORTED", number=1)).footer["not_proved"]
    assert words[:3] == [
        f"{len(CASES) - 2} of {len(CASES)} cases were not selected",
        "1 case did not run: bad",
        "the reason of 1 refusal was not compared: the profile does not map the message",
    ]
    assert re.fullmatch(r"[0-9]+ of [0-9]+ MUST clauses have a case that ran", words[-1])


# ---- JUnit, Markdown, badge, annotations ----


@pytest.mark.parametrize("report", [ALL, GOOD, BAD])
def test_junit_says_the_same(report: Report) -> None:
    document = ET.fromstring(render_junit(report))  # noqa: S314 - our own
    found = {}
    for case in document.iter("testcase"):
        tags = {child.tag for child in case}
        found[case.get("name")] = next((tag for tag in ("failure", "error", "skipped") if tag in tags), "passed")
        assert case.find("properties/property[@name='clauses']") is not None
    kind = {"PASS": "passed", "UNSUPPORTED": "skipped", "XFAIL": "skipped", "VOID": "error"}
    assert found == {row["id"]: kind.get(row["verdict"], "failure") for row in report.rows}


@pytest.mark.parametrize("report", [ALL, GOOD, BAD])
def test_markdown_says_the_same_and_stays_in_its_table(report: Report) -> None:
    text = render_markdown(report)
    assert ("✅" in text) == report.footer["as_expected"]
    for cause in report.causes:
        assert f"`{cause['example']}`: " in text
    assert not re.search(r"(?<!\\)<script", text)
    assert not re.search(r"^# head", text, re.MULTILINE)
    for line in text.splitlines():
        if line.startswith("| **"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 4, line


def test_the_badge_is_green_only_if_all_of_it_passes() -> None:
    assert json.loads(render_badge(GOOD))["color"] == "yellow"
    assert json.loads(render_badge(ALL))["color"] == "red"
    badge = json.loads(render_badge(report_of(made("PASS"))))
    assert badge["color"] == "brightgreen"
    assert badge["schemaVersion"] == 1
    assert badge["message"].startswith("1/1 cases (selection), suite ")


def test_annotations_are_lines_of_their_own() -> None:
    lines = list(iter_annotations(BAD))
    assert len(lines) == len(BAD.causes)
    assert all(re.fullmatch(r"::error title=[^:,\n\r]*::[^\n\r]*", line) for line in lines)
    many = report_of(*(made("FAIL", number=number, text=f"{number}") for number in range(30)), stale=("line 3",))
    assert len(list(iter_annotations(many))) == 10 + 1 + 1


# ---- HTML ----


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.rows: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "tr" and dict(attributes).get("data-verdicts"):
            self.rows.append(dict(attributes))


@pytest.mark.parametrize("report", [ALL, GOOD, BAD])
def test_the_page_has_a_row_for_every_case_and_one_script(report: Report) -> None:
    page = render_page([report])
    tags = Tags()
    tags.feed(page)
    assert [row["data-verdicts"] for row in tags.rows] == [row["verdict"] for row in report.rows]
    assert tags.tags.count("script") == 1
    assert "src" not in re.findall(r"<(?:script|link|img)\s[^>]*", page)
    assert not re.search(r"https?://", page), "the page needs nothing from elsewhere"


def test_several_programs_stand_side_by_side() -> None:
    other = report_of(made("FAIL", number=1), made("PASS", number=2), name="other")
    tags = Tags()
    page = render_page([GOOD, other])
    tags.feed(page)
    assert [row["data-verdicts"] for row in tags.rows] == ["PASS", "UNSUPPORTED FAIL", "XFAIL PASS"]
    assert page.count(">not run<") == 1
    assert "<h3>other</h3>" in page


def test_reports_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(UsageError, match="of one program"):
        render_page([GOOD, GOOD])
    older = Report({**GOOD.header, "suite": 0, "program": "older"}, GOOD.rows, GOOD.footer)
    with pytest.raises(UsageError, match="different suites"):
        render_page([GOOD, older])


# ---- differences ----


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_the_first_byte_that_differs_is_marked(expected: bytes, found: bytes) -> None:
    if expected == found:
        return
    one, other, marks = differing_bytes(expected, found)
    match = re.search(r"byte ([0-9]+) is the first that differs", marks)
    assert match
    first = int(match[1])
    assert expected[:first] == found[:first]
    assert expected[first : first + 1] != found[first : first + 1]
    column = marks.index("^^")
    for row, data in ((one, expected), (other, found)):
        if first < len(data):
            assert row[column : column + 2] == f"{data[first]:02X}"


@given(st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n"])), st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n"])))
def test_the_first_line_that_differs_is_named(expected: list[bytes], found: list[bytes]) -> None:
    if expected == found:
        return
    number, line, other = first_differing_line(b"".join(expected), b"".join(found))
    assert [line] == [*expected[number - 1 : number], None][:1]
    assert [other] == [*found[number - 1 : number], None][:1]
    assert expected[: number - 1] == found[: number - 1]
    assert expected[number - 1 : number] != found[number - 1 : number]


# ---- the command writes them ----


def test_the_command_writes_all_of_them(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = {name: tmp_path / name for name in ("jsonl", "junit", "markdown", "html", "badge")}
    files["markdown"].write_text("# What other steps said\n")
    words = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    assert (
        cli.main(["run", "--quiet", "--annotations", "rstr-envelope", *words, "--", "true", "{snapshot}", "{out}"]) == 1
    )
    reported = capfd.readouterr().out
    title = "1 case%3A missing%3A string in an envelope [RSTR-6]"
    assert f"::error title={title}::rstr-envelope: redis/db_0/strings/k.bin: expected 2 bytes" in reported
    assert "ekvconform repro rstr-envelope -- true" in reported
    report = load_report(files["jsonl"])
    assert [row["verdict"] for row in report.rows] == ["FAIL"]
    assert files["markdown"].read_text().startswith("# What other steps said\n## ❌ true")
    assert "<failure" in files["junit"].read_text()
    assert json.loads(files["badge"].read_text())["color"] == "red"
    assert "rstr-envelope" in files["html"].read_text()
    combined = tmp_path / "combined.html"
    assert cli.main(["combine", str(files["jsonl"]), "--html", str(combined)]) == 0
    assert "rstr-envelope" in combined.read_text()
    assert cli.main(["combine", str(files["badge"]), "--html", str(combined)]) == 2


def test_what_a_program_prints_does_nothing_to_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    print_report(BAD)
    reported = capfd.readouterr().out
    assert "\\x1b[31m" in reported
    assert "\x1b" not in reported
    assert "\0" not in reported


def test_a_long_run_is_quiet_in_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", *JUDGE_COMMAND, "envl-expiry-0", "rstr-bare"]) == 0
    reported: Any = capfd.readouterr()
    assert reported.err == ""
    assert "\x1b" not in reported.out
    assert "rstr" in reported.out


def test_progress_is_shown_on_a_terminal_and_goes_away() -> None:
    terminal, theirs = pty.openpty()
    command = [sys.executable, "-m", "ekvconform", "run", "--quiet", "--jobs", "1", *JUDGE_COMMAND, "rstr-e*"]
    environment = {"PATH": "/usr/bin:/bin", "TERM": "xterm", "COLUMNS": "100"}
    run = subprocess.Popen(command, stderr=theirs, stdout=subprocess.PIPE, env=environment)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # a terminal that nobody writes to any more
        while piece := os.read(terminal, 65536):
            shown += piece
    os.close(terminal)
    assert run.communicate()[0].startswith(b"ekvdump: all ")
    assert run.returncode == 0
    assert b"cases" in shown
    assert shown.rstrip().endswith(b"\x1b[2K"), "the bar was wiped away"
