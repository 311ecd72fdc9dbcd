"""`ekvconform init`: what it works out of a program it knows nothing of."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from decoders import JUDGE_COMMAND
from ekvconform import cli
from ekvconform.campaigns.profile_inference import FAULT_TOKENS, PROBES, WARNING_TOKENS, common_pattern
from ekvconform.cases.loading import load_cases, select_cases
from ekvconform.judge.known_failures import load_known_failures
from ekvconform.run.profiles import load_profile
from patience import HANG_SECONDS

# A decoder with a voice of its own, around the reference: one exit status for all refusals, and other words.
FOREIGN = r"""
import re, subprocess, sys
command = [sys.executable, "-m", "ekvdump", "decode", "--no-sync", *sys.argv[1:3]]
ended = subprocess.run(command, capture_output=True, text=True)
words = {"truncated": "file too short, %s bytes", "bad-magic": "what is this? %s", "io-error": "cannot read %s"}
match = re.match(r"ekvdump: (?:[^:]*, offset )?([^:,]*).*\[([a-z-]+), ", ended.stderr)
if match:
    print("E:", words.get(match[2], "damaged at %s") % match[1], file=sys.stderr)
    sys.exit(9)
sys.exit(0)
"""


# What is worked out shows in the probes; for the list that follows, cases of each kind are enough.
OF_EACH_KIND = ("file-cut-*", "file-header-*", "outc-exit-*", "rstr", "tree-other-database-stays")
CASES = select_cases(load_cases(), [*OF_EACH_KIND, *PROBES])


@pytest.fixture(autouse=True)
def _few_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ekvconform.cli.running.load_cases", lambda: CASES)


def init(tmp_path: Path, program: str, *more: str) -> int:
    script = tmp_path / "decoder.py"
    script.write_text(program)
    command = [sys.executable, str(script), "{snapshot}", "{out}"]
    return cli.main(["init", "--directory", str(tmp_path), "--name", "foreign", *more, "--", *command])


def test_a_foreign_program_gets_a_profile_and_a_list(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert init(tmp_path, FOREIGN) == 0
    text = (tmp_path / "ekvconform.toml").read_text()
    assert tomllib.loads(text)["exit"] == {"complete": [0], "partial": [0], "refused": [9]}
    profile = load_profile(tmp_path / "ekvconform.toml")
    reported = profile.reason_in("E: file too short, 4711 bytes\n")
    assert reported
    assert reported.fault == "truncated"
    reported = profile.reason_in("E: what is this? 0\n")
    assert reported
    assert reported.fault == "bad-magic"
    assert profile.reason_in("E: damaged at 77\n") is None, "it stands for many faults"
    assert re.search(
        r"^# Observed for .*footer-mismatch.*: the message does not distinguish them\.$", text, re.MULTILINE
    )

    # What it cannot do is listed, and the list makes the run green.
    known = load_known_failures(
        tmp_path / "ekvconform-known-failures.txt", ["outc-exit-partial", "outc-exit-snapshot-refused"]
    )
    assert {name: each.verdict for name, each in (known.by_case or {}).items()} == {
        "outc-exit-partial": "FAIL", "outc-exit-snapshot-refused": "FAIL",
    }  # fmt: skip
    capfd.readouterr()
    words = [
        "--profile",
        str(tmp_path / "ekvconform.toml"),
        "--known-failures",
        str(tmp_path / "ekvconform-known-failures.txt"),
    ]
    assert cli.main(["run", "--quiet", "outc", "file", *words]) == 0
    assert "XFAIL" in capfd.readouterr().out

    # And nothing that is there is written over.
    before = (tmp_path / "ekvconform.toml").read_bytes()
    assert init(tmp_path, FOREIGN) == 2
    assert (tmp_path / "ekvconform.toml").read_bytes() == before


def test_the_reference_as_a_foreign_program_has_no_known_failure(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ekvdump", "decode", "--no-sync", "--db={db}", "{snapshot}", "{out}"]
    assert cli.main(["init", "--directory", str(tmp_path), "--", *command]) == 0
    lines = (tmp_path / "ekvconform-known-failures.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == []
    words = tomllib.loads((tmp_path / "ekvconform.toml").read_text())
    assert words["exit"] == {
        "complete": [0], "partial": [3], "snapshot-refused": [4], "tree-refused": [5], "io-error": [7],
    }  # fmt: skip
    assert words["features"] == {"existing_output": True}
    profile = load_profile(tmp_path / "ekvconform.toml")
    reported = profile.reason_in("ekvdump: s.fsm, offset 77: words [footer-mismatch, FILE-18]\n")
    assert reported
    assert (reported.fault, reported.clause, reported.offset) == ("footer-mismatch", "FILE-18", 77)
    assert profile.warnings_in("warning: orphan-ttl: 3: words\n") == {"orphan-ttl": 3}


@pytest.mark.parametrize("program", ["", "import sys; sys.exit('what is --input?')"])
def test_a_program_that_makes_no_dump_is_a_command_with_a_slip(
    tmp_path: Path, program: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert init(tmp_path, program) == 2
    assert "is the command right?" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["decoder.py"]
    command = ["--", sys.executable, str(tmp_path / "decoder.py"), "{snapshot}", "{out}"]
    assert cli.main(["run", "--quiet", "rstr", *command]) == 1
    reported = capfd.readouterr().out
    assert ("printed `what is --input?`: is the command right?" in reported) == bool(program)


def test_a_program_that_says_one_for_partial_and_for_refused(tmp_path: Path) -> None:
    program = FOREIGN.replace("sys.exit(9)", "sys.exit(1)").replace("sys.exit(0)", "sys.exit(ended.returncode and 1)")
    assert init(tmp_path, program) == 0
    assert tomllib.loads((tmp_path / "ekvconform.toml").read_text())["exit"] == {
        "complete": [0],
        "partial": [0],
        "refused": [1],
    }


def test_a_program_that_cannot_be_run_is_usage(tmp_path: Path) -> None:
    assert cli.main(["init", "--directory", str(tmp_path)]) == 2
    assert cli.main(["init", "--directory", str(tmp_path), "--", str(tmp_path / "missing"), "{snapshot}", "{out}"]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("samples", "pattern"),
    [
        ([("x: truncated", {"fault": "truncated"}), ("x: too-large", {"fault": "too-large"})], "^x: (?P<fault>NAME)"),
        (
            [
                ("1 truncated 7", {"fault": "truncated", "offset": "7"}),
                ("2 too-large 8", {"fault": "too-large", "offset": "8"}),
            ],
            "(?P<fault>NAME)(?: (?P<offset>[0-9]+))?",
        ),
        ([("nothing", {"fault": "truncated"}), ("of it", {"fault": "too-large"})], None),
        ([("at 77: truncated-more", {"fault": "truncated"})], None),
        ([], None),
    ],
)  # fmt: skip
def test_what_most_lines_have_in_common_becomes_a_pattern(
    samples: list[tuple[str, dict[str, str]]], pattern: str | None
) -> None:
    found = common_pattern(samples, FAULT_TOKENS)
    expected = None if pattern is None else pattern.replace("NAME", FAULT_TOKENS["fault"])
    assert (found and found.removeprefix(".*?")) == expected


def test_a_count_may_stand_against_a_letter() -> None:
    found = common_pattern([("warn no-footer x1", {"warning": "no-footer", "count": "1"})], WARNING_TOKENS)
    assert found
    match = re.search(found, "warn orphan-ttl x12")
    assert match
    assert match.groupdict() == {"warning": "orphan-ttl", "count": "12"}


def test_smoke_is_the_first_thing_to_try(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--smoke", "--quiet", *JUDGE_COMMAND]) == 0
    assert "all 25 cases as expected" in capfd.readouterr().out
    assert cli.main(["run", "--smoke", *JUDGE_COMMAND, "veri"]) == 2


def test_a_case_can_be_set_up_again_by_hand(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scene = tmp_path / "scene"
    assert cli.main(["repro", *JUDGE_COMMAND, "tree-other-database-stays", "--directory", str(scene)]) == 0
    reported = capfd.readouterr().out
    assert (scene / "work/out/redis/db_1/strings/a.bin").read_bytes() == b"one"
    command = reported.splitlines()[-1]
    assert subprocess.run(["sh", "-c", command], check=False, capture_output=True, timeout=HANG_SECONDS).returncode == 0
    assert (scene / "work/out/redis/db_0/strings/k.bin").read_bytes() == b"new"
    assert cli.main(["repro", *JUDGE_COMMAND, "tree-other-database-stays", "--directory", str(scene)]) == 2, (
        "it is there already"
    )
    assert cli.main(["repro", *JUDGE_COMMAND, "no-such-case"]) == 2
    assert cli.main(["repro", *JUDGE_COMMAND, "tree-other-database-stays", "--", "true", "{snapshot}", "{out}"]) == 2
