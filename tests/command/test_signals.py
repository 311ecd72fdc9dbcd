"""What a signal does to the command, in this process; programs that signals end are in `test_interruption`."""

import contextlib
import errno
import io
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from command_runs import ekvdump
from ekvdump import __version__
from ekvdump.cli import main as cli
from ekvdump.engine.outputs import Blob, Line
from ekvdump.filesystem.tree_writer import TreeWriter
from ekvdump.verify.verification import Verification
from in_process import read_tree
from patience import HANG_SECONDS
from planting import FULL
from sessions import SIGNALS, listen, run_json
from writer import STR, put, snapshot


def send(number: signal.Signals) -> Callable[..., None]:
    """Return a function that sends a signal to this process, whatever it is called with."""

    def sent(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)

    return sent


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.fixture(autouse=True)
def _signals_end_what_runs() -> Iterator[None]:
    """As in the foreground of a terminal, wherever the tests run; other tests keep what they have."""
    before = handlers()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in SIGNALS[1:]:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, action in zip(SIGNALS, before, strict=True):
        signal.signal(number, action)  # type: ignore[arg-type]


@pytest.fixture
def snapshot_path(tmp_path: Path) -> str:
    path = tmp_path / "snapshot.fsm"
    path.write_bytes(FULL)
    return str(path)


def write_partial(directory: Path) -> str:
    """Write a snapshot whose dump is partial."""
    path = directory / "partial.fsm"
    path.write_bytes(snapshot([put(b"!ddb|item|x", 1, b"v"), put(STR + b"k", 1, b"v")]))
    return str(path)


def impatient(real: Callable[..., None]) -> Callable[..., None]:
    """Return a function that sends each signal before it does what it is for."""

    def call(*arguments: object, **keywords: object) -> None:
        for number in SIGNALS:
            os.kill(os.getpid(), number)
        real(*arguments, **keywords)

    return call


class Printed(NamedTuple):
    """What a run left, and what went through the files that its streams are."""

    status: int
    stdout: str
    stderr: str


def run_with_files(directory: Path, *words: str | Path) -> Printed:
    """Run the command in this process, with streams that can be made to go nowhere; then print to them again."""
    names = [directory / "stdout", directory / "stderr"]
    with open(names[0], "w") as stdout, open(names[1], "w") as stderr:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            status = cli.main(list(map(str, words)))
        for stream in (stdout, stderr):
            print("after", file=stream)
    return Printed(status, *(name.read_text() for name in names))


# ---- before there is an answer ----


@pytest.mark.parametrize("number", SIGNALS)
def test_safe_24_an_interrupted_decode_says_what_lies_in_the_output_directory(
    tmp_path: Path, snapshot_path: str, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.chdir(tmp_path)
    again = f"run again with: ekvdump decode --into-existing {shlex.quote(snapshot_path)} out"
    unfinished = f"out holds an unfinished dump without a seal: remove it, or {again}"
    unsealed = f"out has no seal now; {again}"
    words = ["decode", snapshot_path, "out"]
    into = [*words, "--into-existing"]
    for patched, state, arguments in (
        ("pread", "out was not created.", words), ("rename", unfinished, words),
        ("pread", "out is as it was.", into), ("rename", unsealed, into),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(os, patched, send(number))
            assert ekvdump(arguments) == (130, "", f"ekvdump: interrupted\nekvdump: {state}\n")


def test_an_object_for_an_interrupted_run(tmp_path: Path, snapshot_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = str(tmp_path / "out")
    reported = {"ekvdump_version": __version__, "exit_status": 130, "faults": [], "snapshot": snapshot_path}
    nothing: dict[str, object] = {"complete": None, "counters": None, "warnings": [], "partial_reasons": []}
    decode = {"command": "decode", "out": out} | nothing
    for patched, state in (
        ("ekvdump.run.Run", "untouched"),
        ("os.pread", "untouched"),
        ("os.rename", "unfinished"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(patched, send(signal.SIGTERM))
            assert run_json("decode", snapshot_path, out) == reported | decode | {"out_state": state}
    monkeypatch.setattr(os, "pread", send(signal.SIGTERM))
    assert run_json("inspect", snapshot_path) == reported | {"command": "inspect"}


def test_veri_19_what_was_found_before_a_signal_stays_printed(
    tmp_path: Path, snapshot_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ekvdump(["decode", snapshot_path, f"{tmp_path}/out"])[0] == 0
    (tmp_path / "out" / "CHECKSUMS").unlink()
    monkeypatch.setattr(Verification, "_compare_files", send(signal.SIGINT))
    status, stdout, stderr = ekvdump(["verify", f"{tmp_path}/out"])
    assert (status, stderr) == (130, "ekvdump: interrupted\n")
    assert stdout.endswith(" [no-seal, VERI-3]\n")
    assert run_json("verify", f"{tmp_path}/out") == {
        "command": "verify", "ekvdump_version": __version__, "exit_status": 130, "faults": [], "out": f"{tmp_path}/out",
    }  # fmt: skip


# ---- who gets the next signal ----


@pytest.mark.usefixtures("named_files")
def test_safe_24_later_signals_are_ignored_until_the_cleaning_up_is_done(
    tmp_path: Path, snapshot_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[object] = []
    monkeypatch.setattr(os, "unlink", impatient(os.unlink))
    monkeypatch.setattr(os, "rename", send(signal.SIGINT))
    monkeypatch.setattr("ekvdump.cli.commands.print_error", lambda words: reported.append(handlers()))
    before = handlers()
    assert cli.main(["decode", snapshot_path, str(tmp_path / "out")]) == 130
    assert not [path for path in read_tree(tmp_path / "out") if not path.endswith(".bin")]
    # What had to be done is done; whoever waits for our words may end us.
    assert reported == [[signal.SIG_DFL] * len(SIGNALS)] * 2
    assert handlers() == before


@pytest.mark.usefixtures("named_files")
def test_safe_31_safe_24_a_signal_does_not_disturb_the_cleaning_up_of_a_run_that_failed(
    tmp_path: Path, snapshot_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "unlink", impatient(os.unlink))
    monkeypatch.setattr(os, "rename", full)
    status, stdout, stderr = ekvdump(["decode", snapshot_path, f"{tmp_path}/out"])
    assert (status, stdout) == (6, "")
    assert stderr.splitlines()[0].endswith(" [disk-full, SAFE-28]")
    assert "interrupted" not in stderr
    assert not read_tree(tmp_path / "out")


def test_safe_24_a_signal_that_python_loses_is_followed_by_one_that_it_hears(
    tmp_path: Path, snapshot_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Last:
        """What is raised while this is thrown away leads nowhere."""

        def __init__(self, raising: Callable[[], None]) -> None:
            self.raising = raising

        def __del__(self) -> None:
            self.raising()

    def wrong() -> None:
        raise ValueError("something else is wrong")

    written: list[object] = []
    real = TreeWriter.write

    def write(target: TreeWriter, output: Blob | Line) -> None:
        if not written:
            Last(wrong)
            Last(send(signal.SIGINT))
        elif len(written) == 2:
            send(signal.SIGINT)()
        written.append(output)
        real(target, output)

    lost: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda exception: lost.append(exception.exc_type))
    before = sys.unraisablehook
    monkeypatch.setattr(TreeWriter, "write", write)
    assert cli.main(["decode", snapshot_path, str(tmp_path / "out")]) == 130
    assert len(written) == 2
    assert lost == [ValueError]
    assert sys.unraisablehook is before


def test_a_second_signal_while_signals_are_put_back_does_not_keep_the_rest_from_being_put_back(
    snapshot_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = signal.signal

    def followed(number: signal.Signals, action: signal.Handlers) -> None:
        if action == signal.SIG_IGN:
            send(signal.SIGTERM)()
        real(number, action)

    before = sys.unraisablehook
    monkeypatch.setattr(os, "pread", send(signal.SIGINT))
    monkeypatch.setattr(signal, "signal", followed)
    assert cli.main(["inspect", snapshot_path]) == 130
    assert sys.unraisablehook is before


@pytest.mark.parametrize("ignored", SIGNALS)
def test_safe_24_what_the_caller_ignores_stays_ignored(
    tmp_path: Path, snapshot_path: str, monkeypatch: pytest.MonkeyPatch, ignored: signal.Signals
) -> None:
    signal.signal(ignored, signal.SIG_IGN)
    with monkeypatch.context() as patch:
        patch.setattr("ekvdump.cli.commands.print_decoded", send(ignored))
        assert cli.main(["decode", snapshot_path, str(tmp_path / "one")]) == 0
    other = next(number for number in SIGNALS if number != ignored)
    reported: list[list[object]] = []
    monkeypatch.setattr(os, "rename", send(other))
    monkeypatch.setattr("ekvdump.cli.commands.print_error", lambda words: reported.append(handlers()))
    assert cli.main(["decode", snapshot_path, str(tmp_path / "two")]) == 130
    assert reported[0] == [signal.SIG_IGN if number == ignored else signal.SIG_DFL for number in SIGNALS]
    assert signal.getsignal(ignored) == signal.SIG_IGN


def test_a_handler_that_is_not_pythons_is_left_alone(snapshot_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = handlers()
    with monkeypatch.context() as patch:
        patch.setattr(signal, "getsignal", lambda number: None)
        assert ekvdump(["inspect", "--quiet", snapshot_path]) == (0, "", "")
    assert handlers() == before


def test_a_stream_of_the_callers_own_cannot_be_made_to_go_nowhere(
    snapshot_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ekvdump.cli.text.print_inspection", send(signal.SIGINT))
    streams = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        assert cli.main(["inspect", snapshot_path]) == 130


@pytest.mark.parametrize("words", [["inspect", "SNAPSHOT"], ["--version"], ["nope"]], ids=" ".join)
def test_a_program_is_ended_by_no_signal_when_its_answer_is_out(
    snapshot_path: str, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    words = [snapshot_path if word == "SNAPSHOT" else word for word in words]
    monkeypatch.setattr(sys, "argv", ["ekvdump", *words])
    streams = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        status = cli.main()
    assert handlers() == [signal.SIG_IGN] * len(SIGNALS)
    reported = tuple(stream.getvalue() for stream in streams)
    assert (status, *reported) == ekvdump(words)


# ---- while the answer is printed, and after it ----


@pytest.mark.parametrize(
    ("where", "arguments", "status"),
    [
        ("ekvdump.cli.main.parse_arguments", [], 130),
        ("ekvdump.cli.commands.print_state_of_out", ["inspect", "missing"], 7),
        ("ekvdump.cli.commands.print_state_of_out", ["decode", "missing", "out"], 7),
        ("ekvdump.cli.text.print_inspection", ["inspect", "SNAPSHOT"], 130),
        ("ekvdump.cli.json_output.render_inspection", ["inspect", "--json", "SNAPSHOT"], 130),
        ("ekvdump.cli.text.print_outcome", ["decode", "PARTIAL", "OUT"], 3),
        ("ekvdump.cli.text.print_outcome", ["decode", "SNAPSHOT", "OUT"], 0),
        ("ekvdump.cli.json_output.render_outcome", ["decode", "--json", "SNAPSHOT", "OUT"], 0),
        ("ekvdump.cli.json_output.render_outcome", ["decode", "--json", "PARTIAL", "OUT"], 3),
        ("ekvdump.cli.text.print_verdict", ["verify", "SEALED"], 130),
        ("ekvdump.cli.text.print_verdict", ["verify", "UNSEALED"], 1),
        ("ekvdump.cli.text.text_of_fault", ["verify", "UNSEALED"], 1),
    ],
    ids=range(12),
)
def test_outc_7_a_signal_at_other_moments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snapshot_path: str, where: str, arguments: list[str], status: int
) -> None:
    """Nobody may be reading what is printed, so no more of it is."""
    for name in ("sealed", "unsealed"):
        assert ekvdump(["decode", snapshot_path, f"{tmp_path}/{name}"])[0] == 0
    (tmp_path / "unsealed" / "CHECKSUMS").unlink()
    places = {
        "SNAPSHOT": snapshot_path, "PARTIAL": write_partial(tmp_path), "OUT": f"{tmp_path}/out",
        "SEALED": f"{tmp_path}/sealed", "UNSEALED": f"{tmp_path}/unsealed",
    }  # fmt: skip
    monkeypatch.setattr(where, send(signal.SIGINT))
    reported = run_with_files(tmp_path, *(places.get(word, word) for word in arguments))
    assert reported.status == status
    assert "interrupted" not in reported.stderr
    assert "after" not in reported.stdout + reported.stderr


def test_outc_7_a_signal_after_the_seal_and_before_the_answer_gives_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TreeWriter._close_handles

    def interrupted(target: TreeWriter) -> None:
        real(target)
        if target.is_sealed:
            os.kill(os.getpid(), signal.SIGTERM)

    partial = write_partial(tmp_path)
    reported = ekvdump(["decode", partial, f"{tmp_path}/one"])
    assert reported[0] == 3
    with monkeypatch.context() as patch:
        patch.setattr(TreeWriter, "_close_handles", interrupted)
        assert ekvdump(["decode", partial, f"{tmp_path}/two"]) == (
            *reported[:1],
            reported[1].replace("/one", "/two"),
            reported[2],
        )
        said = run_json("decode", partial, f"{tmp_path}/three")
    assert (said["exit_status"], said["out_state"], said["complete"]) == (3, "sealed", False)
    for name in ("two", "three"):
        assert (tmp_path / name / "CHECKSUMS").exists()


# Says on one pipe that it is about to write to the other, which nobody reads.
WRITER = """
import io, os, sys
from ekvdump.cli.main import main

class Waiting(io.RawIOBase):
    def __init__(self, descriptor):
        self._descriptor = descriptor
    def writable(self):
        return True
    def fileno(self):
        return self._descriptor
    def write(self, data):
        os.write(int(sys.argv[1]), b".")
        return os.write(self._descriptor, data)

name = sys.argv[2]
stream = io.TextIOWrapper(io.BufferedWriter(Waiting(getattr(sys, name).fileno())), line_buffering=name == "stderr")
setattr(sys, name, stream)
raise SystemExit(main(sys.argv[3:]))
"""


@pytest.mark.parametrize(
    ("stream", "arguments", "status"),
    [
        ("stdout", ["inspect", "--json", "SNAPSHOT"], 130), ("stdout", ["--version"], 130),
        ("stderr", ["inspect", "missing"], 7), ("stderr", ["nope"], 130),
    ],
    ids=range(4),
)  # fmt: skip
def test_outc_7_a_signal_ends_a_run_that_waits_for_its_reader(
    snapshot_path: Path, stream: str, arguments: list[str], status: int
) -> None:
    reader, writer = os.pipe()
    ready, tell = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    words = [str(snapshot_path) if word == "SNAPSHOT" else word for word in arguments]
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tell), stream, *words],
        stdout=writer if stream == "stdout" else subprocess.DEVNULL,
        stderr=writer if stream == "stderr" else subprocess.DEVNULL,
        preexec_fn=listen,
        pass_fds=[tell],
    ) as running:
        try:
            assert os.read(ready, 1) == b"."
            running.send_signal(signal.SIGINT)
            assert running.wait(timeout=HANG_SECONDS) == status
        finally:
            running.kill()
    for descriptor in (reader, writer, ready, tell):
        os.close(descriptor)
