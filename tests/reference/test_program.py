"""`python -m ekvformat`: exit statuses, and what is printed. What comes of a run is reported by the golden cases."""

import runpy
import sys
from pathlib import Path

import pytest
from ekvformat import __main__ as program
from ekvformat.outcomes import Fault
from ekvformat.tree import decode_database_index
from in_process import read_tree, run_main
from writer import STR, put, snapshot


@pytest.fixture(autouse=True)
def _snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s").write_bytes(snapshot([put(STR + b"k", 1, b"v")]))


def run(*words: str) -> tuple[int, str, str]:
    return run_main(program.main, words)


TYPES = "strings, hll, hashes, lists, sets, zsets, streams"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["s"], "the following arguments are required: OUT"),
        (["s", "out", "--db=one"], "--db: 'one' is not a database index"),
        (["s", "out", "--only=tables"], f"--only: any of {TYPES}"),
        (["s", "out", "--only="], f"--only: any of {TYPES}"),
        (["s", "out", "--wall-time=yesterday"], "--wall-time: not an RFC 3339 time in UTC"),
        (["s", "out", "--wall-time=2026-02-29T12:00:00Z"], "--wall-time: not an RFC 3339 time in UTC"),
        (["s", "out", "--wall-time=2026-08-22t12:00:00z"], "--wall-time: not an RFC 3339 time in UTC"),
        (["s", "out", "--wall-time=2026-08-22T12:00:00+00:00"], "--wall-time: not an RFC 3339 time in UTC"),
    ],
)
def test_outc_7_a_command_line_that_makes_no_sense_is_status_2(words: list[str], message: str) -> None:
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1] == f"ekvformat: error: {message}"
    assert not Path("out").exists()


def test_outc_7_an_interrupted_run_is_status_130_and_leaves_no_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "check_unchanged", interrupted)
    assert run("s", "out", "--no-sync") == (130, "", "")
    assert set(read_tree(Path("out"))) == {"redis/db_0/strings/k.bin"}


def test_outc_8_safe_31_faults_of_cleaning_up_are_printed_and_the_first_fault_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(*_: object) -> None:
        fault = Fault("changed", "FILE-22", "it grew", None, "s")
        fault.also = (Fault("io-error", "SAFE-29", "broken disk", None, "out/MANIFEST.json"),)
        raise fault

    monkeypatch.setattr(program, "check_unchanged", failing)
    assert run("s", "out", "--no-sync") == (
        4,
        "",
        "ekvformat: s: it grew [changed, FILE-22]\nekvformat: out/MANIFEST.json: broken disk [io-error, SAFE-29]\n",
    )


def test_comp_3_a_warning_is_printed_with_its_count_and_what_it_is_about() -> None:
    Path("s").write_bytes(snapshot([put(b"!new|thing|%d" % n, 1, b"v") for n in range(3)]))
    status, out, err = run("s", "out", "--no-sync")
    assert (status, err) == (3, "")
    assert out.startswith("warning: unknown-prefix: 3: ")
    assert out.endswith(": %21new%7Cthing%7C\n")


def test_the_module_runs_as_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ekvformat", "s", "out", "--no-sync"])
    monkeypatch.delitem(sys.modules, "ekvformat.__main__")
    with pytest.raises(SystemExit) as end:
        runpy.run_module("ekvformat", run_name="__main__")
    assert end.value.code == 0
    assert read_tree(Path("out"))["redis/db_0/strings/k.bin"] == b"v"


@pytest.mark.parametrize("index", ["1_0", "+1", " 1", "1.0", "-", "\u0663", "\u00b2", "2147483648", "9" * 300, ""])
def test_tree_3_what_is_no_database_index_is_a_usage_error(tmp_path: Path, index: str) -> None:
    assert run(str(tmp_path / "missing"), str(tmp_path / "out"), f"--db={index}")[0] == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "index"), [("0", 0), ("007", 7), ("2147483647", 2**31 - 1), ("-1", -1), ("-999999999", -999_999_999)]
)
def test_tree_3_a_database_index_has_ascii_digits(text: str, index: int) -> None:
    assert decode_database_index(text) == index
