"""Runs the command and its stages in this process."""

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from ekvdump.cli.main import main
from ekvdump.engine.first_pass import run_first_pass
from ekvdump.engine.outputs import Line, Outputs
from ekvdump.filesystem.directories import HAS_HANDLES
from ekvdump.filesystem.tree_writer import Inventory
from ekvdump.outcome import Outcome, decide_outcome
from ekvdump.run import Run
from ekvdump.verify.keymap import MAX_LINE_SIZE
from ekvformat.decode import NO_OPTIONS, Options
from ekvformat.manifest import Provenance
from ekvformat.outcomes import Fault
from in_process import run_main, runner_of

WALL_TIME = "2026-08-22T12:00:00Z"
run_command = runner_of(main, "ekvdump")
"""Runs `ekvdump` in this process."""


def ekvdump(words: Sequence[str]) -> tuple[int, str, str]:
    """Run `ekvdump` in this process; return its exit status and what it printed."""
    return run_main(main, words)


class MemorySource:
    """A snapshot in memory, which fails where a file would give fewer bytes than asked for."""

    def __init__(self, data: bytes) -> None:
        self.path = "in memory"
        self.data = data
        self.size = len(data)
        self.most_at_once = 0

    def read(self, offset: int, size: int) -> bytes:
        assert 0 <= offset <= offset + size <= self.size, "the decoder judged sizes wrongly [FILE-14]"
        self.most_at_once = max(self.most_at_once, size)
        return self.data[offset : offset + size]


def decode_in_memory(data: bytes, options: Options = NO_OPTIONS) -> tuple[Outcome, dict[str, bytes]]:
    """Decode without a file system; the files are those that the outputs amount to."""
    source = MemorySource(data)
    outputs = Outputs(source, run_first_pass(source), options)
    files: dict[str, bytes] = {}
    for output in outputs:
        if not isinstance(output, Line):
            path = "/".join((*output.directory, output.name))
            assert path not in files, "a blob is written twice"
            files[path] = b"".join(output.iter_pieces())
        else:
            path = "/".join((*output.directory, output.sidecar))
            files[path] = files.get(path, b"") + output.line
    return decide_outcome(outputs, None, Inventory([], 0, ()), handles=True), files


def decode_bytes(
    data: bytes,
    directory: Path,
    options: Options = NO_OPTIONS,
    *,
    name: str = "snapshot",
    into_existing: bool = False,
    sync: bool = True,
    handles: bool = HAS_HANDLES,
) -> Outcome:
    """Decode into `directory/out`, from the file `directory/name`."""
    return prepare_run(
        data, directory, options, name=name, into_existing=into_existing, sync=sync, handles=handles
    ).run()


def prepare_run(
    data: bytes,
    directory: Path,
    options: Options = NO_OPTIONS,
    *,
    name: str = "snapshot",
    into_existing: bool = False,
    sync: bool = True,
    handles: bool = HAS_HANDLES,
) -> Run:
    """Return what `decode_bytes` runs."""
    snapshot = directory / name
    snapshot.write_bytes(data)
    provenance = Provenance(str(snapshot), wall_time=WALL_TIME)
    return Run(
        str(snapshot), str(directory / "out"), options, provenance,
        into_existing=into_existing, sync=sync, handles=handles,
    )  # fmt: skip


def stat_of_tree(directory: Path) -> dict[str, tuple[int, int, int]]:
    return {
        os.path.join(base, name): (status.st_ino, status.st_mtime_ns, status.st_size)
        for base, directories, files in os.walk(directory)
        for name in (*directories, *files)
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


class BoundedLines(io.BytesIO):
    """A stream that fails if a reader asks for a line of any size."""

    def readline(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert 0 < size <= MAX_LINE_SIZE + 1, "a reader takes a line of any size into memory"
        return super().readline(size)


# The machine that runs the tests may have no jq; the library of the same name answers as it does.
JQ = f"""#!{sys.executable}
import jq, sys
words = [word for word in sys.argv[1:] if word != "-r"]
for found in jq.compile(words[0]).input_text(open(words[1]).read()):
    print(found if "-r" in sys.argv and isinstance(found, str) else jq.compile(".").input_value(found).text())
"""


def jq_beside(directory: Path) -> Path:
    """Put a command `jq` into a directory; return the directory."""
    (directory / "jq").write_text(JQ)
    (directory / "jq").chmod(0o755)
    return directory
