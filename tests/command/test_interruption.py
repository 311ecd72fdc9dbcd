"""Runs that are ended from outside: Ctrl-C, SIGTERM, SIGKILL; and what the next run makes of what is left."""

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
from itertools import groupby
from pathlib import Path

import model
import pytest
from command_runs import decode_bytes, prepare_run
from ekvdump.cli.signals import Interrupted
from ekvdump.filesystem.tree_writer import TreeWriter
from ekvdump.run import decode
from ekvdump.verify.verification import Verification
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import read_tree
from patience import HANG_SECONDS
from sessions import SIGNALS, listen
from writer import HLL, STR, TTL, envelope, expiry, put, snapshot

COUNT = 40
ENTRIES = [
    *(put(STR + b"s%02d" % n, 1, envelope(1, b"payload %02d" % n * 50, n)) for n in range(COUNT)),
    *(put(HLL + b"h%02d" % n, 1, envelope(2, b"sketch %02d" % n * 50)) for n in range(COUNT)),
    put(STR + b"%" * 81, 1, b"long"), put(TTL + b"%" * 81, 1, expiry(5)),
]  # fmt: skip
DATA = snapshot(ENTRIES)
WHOLE = model.expected_dump(ENTRIES, 1000).files

# A program that counts the calls that change the tree, and does something to itself before or after the n-th.
PROGRAM = """
import os, signal, sys
from ekvdump.cli.main import main
from ekvdump.filesystem import directories  # looks at what the platform has, which is counted below

nth, when, number = int(sys.argv[1]), sys.argv[2], getattr(signal, sys.argv[3])
calls = 0

def counted(function):
    def call(*arguments, **keywords):
        global calls
        calls += 1
        if calls == nth and when == "before":
            os.kill(os.getpid(), number)
        result = function(*arguments, **keywords)
        if calls == nth and when == "after":
            os.kill(os.getpid(), number)
        return result
    return call

for name in ("open", "mkdir", "write", "rename", "unlink", "close"):
    setattr(os, name, counted(getattr(os, name)))
raise SystemExit(main(sys.argv[4:]))
"""


def run_and_end(tmp_path: Path, nth: int, when: str, number: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        str(nth),
        when,
        number,
        "decode",
        "--json",
        "--into-existing",
        "--no-sync",
    ]
    arguments = [str(tmp_path / "snapshot"), str(tmp_path / "out")]
    return subprocess.run(
        [*command, *arguments], check=False, capture_output=True, text=True, timeout=HANG_SECONDS, preexec_fn=listen
    )


def check_no_half_blob(out: Path) -> None:
    """Whatever has a final name and is no sidecar holds what it is to hold. [SAFE-25]"""
    for path, data in read_tree(out).items() if out.exists() else ():
        if path.endswith(".bin"):
            assert data == WHOLE[path]


def check_the_next_run_completes(tmp_path: Path) -> None:
    decode(str(tmp_path / "snapshot"), str(tmp_path / "out"), into_existing=True, sync=False)
    files = read_tree(tmp_path / "out")
    assert {path: data for path, data in files.items() if path.startswith("redis")} == WHOLE
    findings: list[object] = []
    Verification(str(tmp_path / "out"), findings.append).run()
    assert findings == []


@settings(max_examples=settings.default.max_examples // 8 if settings.default else 12)
@given(st.integers(1, 500), st.sampled_from(["before", "after"]), st.booleans())
def test_safe_25_safe_26_a_killed_run_leaves_no_half_blob_and_the_next_run_completes(
    tmp_path_factory: pytest.TempPathFactory, nth: int, when: str, earlier: bool
) -> None:
    tmp_path = tmp_path_factory.mktemp("killed")
    (tmp_path / "snapshot").write_bytes(DATA)
    if earlier:
        decode(str(tmp_path / "snapshot"), str(tmp_path / "out"), sync=False)
    result = run_and_end(tmp_path, nth, when, "SIGKILL")
    if result.returncode == -signal.SIGKILL:
        files = set(read_tree(tmp_path / "out")) if (tmp_path / "out").exists() else set()
        assert sum(path.endswith(".ekvdump.tmp") for path in files) <= 1
        if "CHECKSUMS" in files:
            # Killed before the first write, or after the last.
            assert set(WHOLE) <= files
        check_no_half_blob(tmp_path / "out")
    else:
        assert result.returncode == 0
    check_the_next_run_completes(tmp_path)


@settings(max_examples=settings.default.max_examples // 8 if settings.default else 12)
@given(st.integers(1, 500), st.sampled_from(["before", "after"]), st.sampled_from([number.name for number in SIGNALS]))
def test_safe_24_an_interrupted_run_leaves_neither_seal_nor_temporary_file(
    tmp_path_factory: pytest.TempPathFactory, nth: int, when: str, number: str
) -> None:
    tmp_path = tmp_path_factory.mktemp("interrupted")
    (tmp_path / "snapshot").write_bytes(DATA)
    result = run_and_end(tmp_path, nth, when, number)
    assert "Traceback" not in result.stderr
    reported = json.loads(result.stdout)
    assert reported["exit_status"] == result.returncode
    files = set(read_tree(tmp_path / "out")) if (tmp_path / "out").exists() else set()
    assert not [path for path in files if path.endswith(".ekvdump.tmp")]
    if result.returncode == 130:
        assert result.stderr.startswith("ekvdump: interrupted\n")
        assert reported["out_state"] in ("unfinished", "untouched")
        assert not {"MANIFEST.json", "CHECKSUMS"} & files
        assert (reported["out_state"] == "untouched") == (
            files == set() and ("is as it was" in result.stderr or "was not created" in result.stderr)
        )
        check_no_half_blob(tmp_path / "out")
    else:
        assert result.returncode == 0
        assert "CHECKSUMS" in files
    check_the_next_run_completes(tmp_path)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("command", ["decode", "inspect", "verify"])
def test_outc_7_a_signal_ends_every_command_with_130(tmp_path: Path, command: str, number: signal.Signals) -> None:
    """The program is waiting for a pipe to be read, so nothing but the signal can end it."""
    (tmp_path / "snapshot").write_bytes(DATA)
    decode_bytes(DATA, tmp_path)
    arguments = {
        "decode": ["decode", str(tmp_path / "snapshot"), str(tmp_path / "other")],
        "inspect": ["inspect", str(tmp_path / "snapshot")],
        "verify": ["verify", str(tmp_path / "out")],
    }[command]
    program = (
        "import os, signal, sys\n"
        "from ekvdump.filesystem import directories\n"
        "from ekvdump.engine import source\n"
        "from ekvdump.cli.main import main\n"
        "def wait(*arguments, **keywords):\n"
        "    os.write(2, b'waiting\\n')\n"
        "    signal.pause()\n"
        "source.SnapshotFile.read = wait\n"
        "directories.HandleDirectory.iter_names = wait\n"
        "raise SystemExit(main(sys.argv[1:]))\n"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listen,
    )  # fmt: skip
    assert running.stderr is not None
    assert running.stderr.readline() == "waiting\n"
    running.send_signal(number)
    stdout, stderr = running.communicate(timeout=HANG_SECONDS)
    assert running.returncode == 130
    assert stdout == ""
    assert stderr.startswith("ekvdump: interrupted\n")


def test_safe_24_a_closed_terminal_interrupts_a_run(tmp_path: Path) -> None:
    """As when a connection breaks: the system sends SIGHUP, and there is nobody left to tell."""
    (tmp_path / "snapshot").write_bytes(DATA)
    program = (
        "import os, signal, sys\n"
        "from ekvdump.filesystem import directories\n"
        "from ekvdump.cli.main import main\n"
        "def wait(*arguments, **keywords):\n"
        "    os.write(2, b'waiting')\n"
        "    signal.pause()\n"
        "os.link = wait\n"
        "raise SystemExit(main(sys.argv[1:]))\n"
    )
    master, slave = pty.openpty()

    def take_terminal() -> None:
        listen()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    running = subprocess.Popen(
        [sys.executable, "-c", program, "decode", "--no-sync", tmp_path / "snapshot", tmp_path / "out"],
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=take_terminal,
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while b"waiting" not in shown:
        shown += os.read(master, 65536)
    os.close(master)
    assert running.wait(timeout=HANG_SECONDS) == 130
    assert not read_tree(tmp_path / "out")


def test_safe_24_a_second_signal_does_not_disturb_the_cleaning_up(tmp_path: Path) -> None:
    (tmp_path / "snapshot").write_bytes(DATA)
    program = PROGRAM.replace(
        "raise SystemExit",
        "unlink = os.unlink\n"
        "def impatient(*arguments, **keywords):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return unlink(*arguments, **keywords)\n"
        "os.unlink = impatient\n"
        "raise SystemExit",
    )
    command = [sys.executable, "-c", program, "60", "after", "SIGINT", "decode", "--no-sync"]
    result = subprocess.run(
        [*command, tmp_path / "snapshot", tmp_path / "out"],
        check=False, capture_output=True, text=True, timeout=HANG_SECONDS, preexec_fn=listen,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (130, "")
    assert "Traceback" not in result.stderr
    assert not [path for path in read_tree(tmp_path / "out") if path.endswith((".tmp", ".json", "CHECKSUMS"))]


def test_safe_24_a_signal_that_the_caller_ignores_stays_ignored(tmp_path: Path) -> None:
    (tmp_path / "snapshot").write_bytes(DATA)
    command = f"trap '' INT; exec {sys.executable} -c \"$0\" 60 after SIGINT decode --quiet --no-sync $1 $2"
    result = subprocess.run(
        ["sh", "-c", command, PROGRAM, tmp_path / "snapshot", tmp_path / "out"], check=False, timeout=HANG_SECONDS
    )
    assert result.returncode == 0


def test_safe_19_a_large_payload_is_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal is answered between two calls, so none of them may take long."""
    sizes: list[int] = []
    write = os.write

    def written(descriptor: int, data: memoryview) -> int:
        sizes.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", written)
    decode_bytes(snapshot([put(STR + b"k", 1, bytes(5_000_000))]), tmp_path)
    assert max(sizes) == 1024 * 1024
    assert (tmp_path / "out/redis/db_0/strings/k.bin").stat().st_size == 5_000_000


def test_safe_24_an_interrupt_says_whether_anything_was_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(target: TreeWriter) -> None:
        raise Interrupted

    monkeypatch.setattr(TreeWriter, "unseal", interrupted)
    run = prepare_run(DATA, tmp_path)
    with pytest.raises(Interrupted):
        run.run()
    assert run.out_state == "untouched"
    assert not (tmp_path / "out").exists()


# ---- what a terminal shows ----


def run_on_terminal(
    arguments: list[str], environment: dict[str, str] | None = None, *, piped: bool = False
) -> tuple[int, str, str]:
    """Run with a terminal for all three streams, or with a pipe for stdout.

    Returns the exit status, what the terminal showed, and what came through the pipe.
    """
    master, slave = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "ekvdump", *arguments],
        stdin=slave, stdout=subprocess.PIPE if piped else slave, stderr=slave, close_fds=True,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "100"} | (environment or {}),
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other end was closed
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    reported, _ = running.communicate(timeout=HANG_SECONDS)
    return running.returncode, shown.decode(), (reported or b"").decode()


def test_a_terminal_shows_progress_and_colours_and_a_pipe_does_not(tmp_path: Path) -> None:
    (tmp_path / "snapshot").write_bytes(DATA)
    status, shown, _ = run_on_terminal(["decode", str(tmp_path / "snapshot"), str(tmp_path / "out")])
    assert status == 0
    assert "\x1b[1;32m" in shown
    assert "reading" in shown
    assert "keys" in shown
    # The bar is gone, and the cursor is shown again, before the summary begins.
    assert "entries" not in shown[: shown.rindex("\x1b[?25h")]
    status, shown, _ = run_on_terminal(["verify", str(tmp_path / "out")])
    assert (status, "files" in shown) == (0, True)
    piped = subprocess.run(
        [sys.executable, "-m", "ekvdump", "inspect", tmp_path / "snapshot"], check=True, capture_output=True, text=True
    )
    assert "\x1b" not in piped.stdout
    assert piped.stderr == ""


@pytest.mark.parametrize("how", [["--quiet"], []])
def test_no_color_and_quiet(tmp_path: Path, how: list[str]) -> None:
    (tmp_path / "snapshot").write_bytes(DATA)
    arguments = ["decode", *how, str(tmp_path / "snapshot"), str(tmp_path / "out")]
    status, shown, _ = run_on_terminal(arguments, {"NO_COLOR": "1"})
    assert status == 0
    assert "\x1b[1;32m" not in shown
    assert (shown == "") == (how == ["--quiet"])


def test_what_goes_into_a_pipe_goes_there_while_a_terminal_shows_progress(tmp_path: Path) -> None:
    decode_bytes(DATA, tmp_path)
    (tmp_path / "out" / "foreign").touch()
    status, shown, reported = run_on_terminal(["verify", str(tmp_path / "out")], piped=True)
    assert status == 1
    assert reported.startswith("foreign: the file has no line")
    assert "1 finding in " in reported
    assert "foreign" not in shown
    assert "\x1b" not in reported


def test_progress_hears_every_stage(tmp_path: Path) -> None:
    heard: list[tuple[str, int, int]] = []
    (tmp_path / "snapshot").write_bytes(DATA)
    decode(str(tmp_path / "snapshot"), str(tmp_path / "out"), progress=lambda *step: heard.append(step))
    stages = [stage for stage, _, _ in heard]
    totals = {"bytes": len(DATA), "keys": 2 * COUNT + 1, "TTL records": 1}
    assert [stage for stage, _ in groupby(stages)] == list(totals)
    for stage, done, in_all in heard:
        assert 0 <= done <= in_all == totals[stage]
    heard.clear()
    Verification(str(tmp_path / "out"), print, lambda *step: heard.append(step)).run()
    files = len(read_tree(tmp_path / "out"))
    assert heard == [("files", n, files) for n in range(1, files + 1)]
