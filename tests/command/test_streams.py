"""What the command does where its streams are closed, full, no text, or terminals."""

import contextlib
import errno
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest
from command_runs import ekvdump
from ekvdump.cli import main as cli
from patience import HANG_SECONDS
from planting import FULL
from terminals import Terminal, environment_of_a_terminal
from writer import STR, put, snapshot

CANNOT_PRINT = "ekvdump: cannot print the answer: No space left on device\n"


@pytest.fixture
def snapshot_path(tmp_path: Path) -> str:
    path = tmp_path / "snapshot.fsm"
    path.write_bytes(FULL)
    return str(path)


def write_partial(directory: Path) -> Path:
    """Write a snapshot whose dump is partial."""
    path = directory / "partial.fsm"
    path.write_bytes(snapshot([put(b"!ddb|item|x", 1, b"v"), put(STR + b"k", 1, b"v")]))
    return path


def run_on(stdout: TextIO, stderr: TextIO, *words: str | Path) -> int:
    """Run the command in this process, with these streams."""
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        return cli.main(list(map(str, words)))


@contextlib.contextmanager
def unread_pipe() -> Iterator[TextIO]:
    """A pipe whose other end is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        yield stream


@contextlib.contextmanager
def full_device() -> Iterator[TextIO]:
    # Where there is no such device, none is to be made.
    with open(os.open("/dev/full", os.O_WRONLY), "w") as stream:
        yield stream


# ---- closed ----


@pytest.mark.parametrize("command", [["--help"], ["inspect", "SNAPSHOT"], ["decode", "SNAPSHOT", "OUT"]], ids=" ".join)
def test_a_closed_pipe_is_quiet(tmp_path: Path, snapshot_path: str, command: list[str]) -> None:
    words = [{"SNAPSHOT": snapshot_path, "OUT": str(tmp_path / "out")}.get(word, word) for word in command]
    errors = io.StringIO()
    with unread_pipe() as stream:
        assert run_on(stream, errors, *words) == 0
    assert errors.getvalue() == ""
    assert (tmp_path / "out" / "CHECKSUMS").exists() == (command[0] == "decode")


def test_outc_7_a_partial_dump_is_3_whoever_reads_the_summary(tmp_path: Path) -> None:
    errors = io.StringIO()
    with unread_pipe() as stream:
        assert run_on(stream, errors, "decode", write_partial(tmp_path), tmp_path / "out") == 3
    assert errors.getvalue() == ""


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_do_no_harm(tmp_path: Path, snapshot_path: str, closed: str) -> None:
    command = f"{sys.executable} -m ekvdump decode {snapshot_path} {tmp_path}/out {closed}"
    result = subprocess.run(["sh", "-c", command], check=False, capture_output=True, timeout=HANG_SECONDS)
    assert result.returncode == 0
    assert b"Traceback" not in result.stderr
    assert ekvdump(["verify", f"{tmp_path}/out"])[0] == 0


def test_a_stream_that_is_closed_is_replaced_by_one_that_goes_nowhere(tmp_path: Path, snapshot_path: str) -> None:
    with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
        assert cli.main(["decode", snapshot_path, str(tmp_path / "out")]) == 0
        assert cli.main(["inspect", "missing"]) == 7
        for stream in (sys.stdout, sys.stderr):
            assert isinstance(stream, io.TextIOWrapper)
            assert (stream.name, stream.mode, stream.encoding) == (os.devnull, "w", "utf-8")
            stream.close()


def add_foreign_files(out: Path) -> None:
    for number in range(300):
        (out / f"foreign-{number}-{'x' * 100}").touch()


def spoil_checksums(out: Path) -> None:
    (out / "CHECKSUMS").write_text("malformed\n" * 10_000)


@pytest.mark.parametrize("spoil", [add_foreign_files, spoil_checksums])
def test_verify_into_a_pipe_that_is_closed_still_says_1(
    tmp_path: Path, snapshot_path: str, spoil: Callable[[Path], None]
) -> None:
    assert ekvdump(["decode", snapshot_path, f"{tmp_path}/out"])[0] == 0
    spoil(tmp_path / "out")
    command = f"({sys.executable} -m ekvdump verify {tmp_path}/out; echo $? >&2) | head -n 1"
    result = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert result.stderr == "1\n"


# ---- full ----


def test_findings_that_cannot_be_printed_are_no_fault_of_the_dump(tmp_path: Path, snapshot_path: str) -> None:
    assert ekvdump(["decode", snapshot_path, f"{tmp_path}/out"])[0] == 0
    spoil_checksums(tmp_path / "out")
    errors = io.StringIO()
    with full_device() as full:
        assert run_on(full, errors, "verify", f"{tmp_path}/out") == 1
    assert errors.getvalue() == CANNOT_PRINT


@pytest.mark.parametrize(
    "command", [["--version"], ["--help"], ["inspect", "SNAPSHOT"], ["inspect", "--json", "SNAPSHOT"]], ids=" ".join
)
def test_an_answer_that_cannot_be_printed_is_a_failure(snapshot_path: str, command: list[str]) -> None:
    words = [{"SNAPSHOT": snapshot_path}.get(word, word) for word in command]
    errors = io.StringIO()
    with full_device() as full:
        assert run_on(full, errors, *words) == 6
        # Nothing is left that could fail when the process ends.
        print("lost", file=full, flush=True)
    assert errors.getvalue() == CANNOT_PRINT


def test_an_answer_that_cannot_be_printed_is_a_failure_of_the_program_too(snapshot_path: str) -> None:
    with full_device() as full:
        command = [sys.executable, "-m", "ekvdump", "inspect", snapshot_path]
        result = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, check=False, timeout=HANG_SECONDS, text=True
        )
    assert (result.returncode, result.stderr) == (6, CANNOT_PRINT)


def test_a_partial_dump_stays_partial_if_its_summary_cannot_be_printed(tmp_path: Path) -> None:
    with full_device() as full, full_device() as full_too:
        assert run_on(full, full_too, "decode", write_partial(tmp_path), tmp_path / "out") == 3
        print("lost", file=full_too, flush=True)


def test_messages_that_cannot_be_printed_leave_the_exit_status(tmp_path: Path, snapshot_path: str) -> None:
    with full_device() as full:
        assert run_on(io.StringIO(), full, "decode", tmp_path / "missing", tmp_path / "out") == 7
    with full_device() as full:
        assert run_on(full, io.StringIO(), "decode", snapshot_path, tmp_path / "out") == 6
    assert ekvdump(["verify", f"{tmp_path}/out"])[0] == 0


class Refusing(io.TextIOWrapper):
    """A stream that takes nothing, where others fail only when they are flushed."""

    def __init__(self) -> None:
        super().__init__(open(os.devnull, "wb"))

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(("words", "status"), [(["inspect", "missing"], 7), (["nope"], 2)])
def test_a_message_that_is_refused_at_once_leaves_the_exit_status(words: list[str], status: int) -> None:
    with Refusing() as refusing:
        assert run_on(io.StringIO(), refusing, *words) == status


@pytest.mark.parametrize("words", [["inspect", "SNAPSHOT"], ["--version"], ["--help"]])
def test_an_answer_that_is_refused_at_once_is_a_failure(snapshot_path: str, words: list[str]) -> None:
    errors = io.StringIO()
    with Refusing() as refusing:
        assert run_on(refusing, errors, *(snapshot_path if word == "SNAPSHOT" else word for word in words)) == 6
    assert errors.getvalue() == CANNOT_PRINT


# ---- no text ----


def test_what_a_stream_cannot_show_is_shown_escaped(tmp_path: Path, snapshot_path: str) -> None:
    (tmp_path / "é.fsm").write_bytes(FULL)
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True) for _ in range(2)]
    stdout, stderr = streams
    assert run_on(stdout, stderr, "inspect", "--quiet", tmp_path / "é") == 7
    assert run_on(stdout, stderr, "inspect", tmp_path / "é.fsm") == 0
    assert b"\\xe9.fsm': sound" in stdout.buffer.getvalue()
    assert b"\\xe9': cannot open" in stderr.buffer.getvalue()


def test_json_is_json_whatever_the_encoding_of_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "é.fsm").write_bytes(FULL)
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert run_on(stdout, io.StringIO(), "inspect", "--json", tmp_path / "é.fsm") == 0
    assert json.loads(stdout.buffer.getvalue())["snapshot"] == f"{tmp_path}/é.fsm"


def test_an_output_directory_that_is_no_text_is_shown_escaped(tmp_path: Path, snapshot_path: str) -> None:
    out = os.fsencode(tmp_path) + b"/\xff\xe2\x82\xac"
    command = [os.fsencode(sys.executable), b"-m", b"ekvdump", b"decode", os.fsencode(snapshot_path), out]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    result = subprocess.run(command, check=False, capture_output=True, env=environment)
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"/\\xff\\xe2\\x82\\xac': complete" in result.stdout


def test_mani_5_words_that_are_no_text_are_no_traceback(tmp_path: Path, snapshot_path: str) -> None:
    words = ["decode", "--quiet", "--cluster-id", os.fsdecode(b"\xff"), snapshot_path, f"{tmp_path}/out"]
    assert ekvdump(words) == (0, "", "")


# ---- terminals ----


@pytest.fixture
def terminals(monkeypatch: pytest.MonkeyPatch) -> tuple[Terminal, Terminal]:
    environment_of_a_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "60")
    return Terminal(), Terminal()


def test_a_terminal_shows_the_verdict_in_colour_and_breaks_no_line(
    tmp_path: Path, snapshot_path: str, terminals: tuple[Terminal, Terminal]
) -> None:
    stdout, stderr = terminals
    out = tmp_path / ("123 " * 30)
    assert run_on(stdout, stderr, "decode", snapshot_path, out) == 0
    *counts, verdict = stdout.getvalue().splitlines()
    assert verdict == f"'{out}': \x1b[1;32mcomplete\x1b[0m"
    assert "\x1b" not in "".join(counts)


GREEN, YELLOW, RED = "\x1b[1;32m", "\x1b[1;33m", "\x1b[1;31m"


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        (["inspect", "SOUND"], f"{GREEN}sound; decode will be complete"),
        (
            ["inspect", "UNREADABLE"],
            f"{YELLOW}sound; decode will refuse it: 1 value that no client could read; "
            "--salvage shows the other 0 keys",
        ),
        (
            ["inspect", "NO-FOOTER"],
            f"{YELLOW}nothing is wrong, but there is no footer to prove that it is whole; decode will be complete",
        ),
        (["inspect", "CUT"], f"{RED}refused at offset {len(FULL) - 4}; what stands above is what could be read"),
        (["decode", "SOUND", "new"], f"{GREEN}complete"),
        (["decode", "--salvage", "UNREADABLE", "new"], f"{YELLOW}partial: 1 unreadable-value (redis/db_0)"),
        (["verify", "whole"], f"{GREEN}9 files, whole, and complete"),
        (
            ["verify", "part"],
            f"{YELLOW}4 files, whole, of a dump that is partial: see `outcome` in MANIFEST.json",
        ),
        (
            ["verify", "."],
            f"{RED}not a dump: it has no MANIFEST.json, CHECKSUMS or redis; nothing in it was looked at",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_each_verdict_has_its_colour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminals: tuple[Terminal, Terminal],
    words: list[str], verdict: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("SOUND").write_bytes(FULL)
    Path("CUT").write_bytes(FULL[:-4])
    Path("NO-FOOTER").write_bytes(snapshot([], header=b"", with_footer=False))
    Path("UNREADABLE").write_bytes(snapshot([put(STR + b"k", 1, b"\xff\x01")]))
    assert ekvdump(["decode", "SOUND", "whole"])[0] == 0
    assert ekvdump(["decode", "--salvage", "UNREADABLE", "part"])[0] == 3
    stdout, stderr = terminals
    run_on(stdout, stderr, *words)
    name = words[-1] if words[0] != "inspect" else words[1]
    assert stdout.getvalue().splitlines()[-1] == f"{name}: {verdict}\x1b[0m"


COMMANDS = {"decode": (["SNAPSHOT", "NEW"], "keys"), "inspect": (["SNAPSHOT"], "reading"), "verify": (["OUT"], "files")}


@pytest.mark.parametrize("command", COMMANDS)
def test_progress_is_shown_where_stderr_is_a_terminal(
    tmp_path: Path, snapshot_path: str, terminals: tuple[Terminal, Terminal], command: str
) -> None:
    assert ekvdump(["decode", snapshot_path, f"{tmp_path}/out"])[0] == 0
    places = {"SNAPSHOT": snapshot_path, "OUT": f"{tmp_path}/out", "NEW": f"{tmp_path}/new"}
    words, shown = COMMANDS[command]
    words = [command, *(places[word] for word in words)]
    stdout, stderr = terminals
    assert run_on(stdout, stderr, *words) == 0
    assert shown in stderr.getvalue()
    assert "\x1b[?25l" not in stdout.getvalue()
    for quiet, errors in ((["--quiet"], Terminal()), ([], io.StringIO())):
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        assert run_on(stdout, errors, *words, *quiet) == 0
        assert errors.getvalue() == ""


@pytest.mark.parametrize("words", ["get SNAPSHOT a", "keys SNAPSHOT", "resp SNAPSHOT"])
def test_a_command_that_only_prints_fails_where_its_output_is_closed(tmp_path: Path, words: str) -> None:
    path = tmp_path / "snapshot.fsm"
    path.write_bytes(snapshot([put(STR + b"a", 1, b"one")]))
    command = f"{sys.executable} -m ekvdump {words.replace('SNAPSHOT', str(path))} >&-"
    result = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, check=False, timeout=HANG_SECONDS, text=True)
    assert (result.returncode, result.stderr) == (7, "ekvdump: cannot print the answer: Bad file descriptor\n")
