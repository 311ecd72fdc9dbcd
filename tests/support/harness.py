"""How the tests run the decoder and look at what it left."""

import contextlib
import io
import os
import stat
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from ekvconform.cases.limits import Limits
from ekvconform.run.sandbox import UMASK, Finish, Sandbox, environment
from ekvdump.cli.main import main
from ekvdump.engine.first_pass import run_first_pass
from ekvdump.engine.outputs import Blob, Outputs
from ekvdump.filesystem.directories import HAS_HANDLES
from ekvdump.filesystem.tree_writer import Inventory
from ekvdump.outcome import Outcome, decide_outcome
from ekvdump.run import Run
from ekvdump.verify.keymap import MAX_LINE_SIZE
from ekvformat.decode import NO_OPTIONS, Options
from ekvformat.manifest import Provenance
from ekvformat.outcomes import Fault

WALL_TIME = "2026-08-22T12:00:00Z"


class MemorySource:
    """A snapshot in memory, which fails where a file would give fewer bytes than asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.most_at_once = 0

    def read(self, offset: int, size: int) -> bytes:
        assert 0 <= offset <= offset + size <= self.size, "the decoder judged sizes wrongly [FILE-12]"
        self.most_at_once = max(self.most_at_once, size)
        return self.data[offset : offset + size]


def decode_in_memory(data: bytes, options: Options = NO_OPTIONS) -> tuple[Outcome, dict[str, bytes]]:
    """Decode without a file system; the files are those that the outputs amount to."""
    source = MemorySource(data)
    outputs = Outputs(source, run_first_pass(source), options)
    files: dict[str, bytes] = {}
    for output in outputs:
        if isinstance(output, Blob):
            path = "/".join((*output.directory, f"{output.segment}.bin"))
            assert path not in files, "a blob is written twice"
            files[path] = output.payload
        else:
            path = "/".join((*output.directory, output.sidecar))
            files[path] = files.get(path, b"") + output.line
    return decide_outcome(outputs, None, Inventory([], 0, ()), handles=True), files


def decode_bytes(
    data: bytes,
    folder: Path,
    options: Options = NO_OPTIONS,
    *,
    name: str = "snapshot",
    into_existing: bool = False,
    sync: bool = True,
    handles: bool = HAS_HANDLES,
) -> Outcome:
    """Decode into `folder/out`, from the file `folder/name`."""
    return prepare_run(data, folder, options, name=name, into_existing=into_existing, sync=sync, handles=handles).run()


def prepare_run(
    data: bytes,
    folder: Path,
    options: Options = NO_OPTIONS,
    *,
    name: str = "snapshot",
    into_existing: bool = False,
    sync: bool = True,
    handles: bool = HAS_HANDLES,
) -> Run:
    """Return what `decode_bytes` runs."""
    snapshot = folder / name
    snapshot.write_bytes(data)
    provenance = Provenance(str(snapshot), wall_time=WALL_TIME)
    return Run(
        str(snapshot), str(folder / "out"), options, provenance,
        into_existing=into_existing, sync=sync, handles=handles,
    )  # fmt: skip


def read_tree(folder: Path) -> dict[str, bytes]:
    """Every regular file below a folder; anything but files and folders fails the test."""
    files = {}
    for base, folders, names in os.walk(folder):
        for name in folders:
            assert stat.S_ISDIR(os.lstat(os.path.join(base, name)).st_mode)
        for name in names:
            path = os.path.join(base, name)
            assert stat.S_ISREG(os.lstat(path).st_mode)
            files[os.path.relpath(path, folder)] = Path(path).read_bytes()
    return files


def stat_of_tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    return {
        os.path.join(base, name): (status.st_ino, status.st_mtime_ns, status.st_size)
        for base, folders, files in os.walk(folder)
        for name in (*folders, *files)
        for status in [os.lstat(os.path.join(base, name))]
    }


def refusal(data: bytes, options: Options = NO_OPTIONS) -> tuple[str, str, int | None, bytes | None]:
    """Decode what must be refused: fault, clause, offset, key."""
    with pytest.raises(Fault) as caught:
        decode_in_memory(data, options)
    fault = caught.value
    assert fault.detail
    return fault.name, fault.clause, fault.offset, fault.key


def fault_of(fault: Fault) -> tuple[str, str, int | None]:
    assert fault.detail
    return fault.name, fault.clause, fault.offset


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def environment_is(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def run_here(command: Sequence[str], box: Sandbox, limits: Limits, stop: int | None) -> Finish:
    """What `run_program` does, without a process."""
    with contextlib.chdir(box.root / "work"), environment_is(environment(box)), umask(UMASK):
        status, out, err = run_main(command[command.index("ekvdump") + 1 :])
    return Finish(status, None, False, None, out, err, 0.0, 0)


def run_main(words: Sequence[str]) -> tuple[int, str, str]:
    """Run the command in this process; return its exit status, and what it printed."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(words)
        except Exception:
            traceback.print_exc()
            status = 1
    told = []
    for stream in (out, err):
        stream.flush()
        told.append(stream.buffer.getvalue().decode(errors="backslashreplace"))
    return status, told[0], told[1]


class BoundedLines(io.BytesIO):
    """A stream that fails if a reader asks for a line of any size."""

    def readline(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert 0 < size <= MAX_LINE_SIZE + 1, "a reader takes a line of any size into memory"
        return super().readline(size)


class Terminal(io.StringIO):
    """What is written to it is kept, as a terminal shows it."""

    def isatty(self) -> bool:
        return True


def environment_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing that the tests were started with say how a terminal is used."""
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


# The machine that runs the tests may have no jq; the library of the same name answers as it does.
JQ = f"""#!{sys.executable}
import jq, sys
words = [word for word in sys.argv[1:] if word != "-r"]
for found in jq.compile(words[0]).input_text(open(words[1]).read()):
    print(found if "-r" in sys.argv and isinstance(found, str) else jq.compile(".").input_value(found).text())
"""


def jq_beside(folder: Path) -> Path:
    """Put a command `jq` into a folder; return the folder."""
    (folder / "jq").write_text(JQ)
    (folder / "jq").chmod(0o755)
    return folder
