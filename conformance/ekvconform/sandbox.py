"""Runs a program once, in folders of its own, and leaves nothing of it running.

    <sandbox>/in/<snapshot>   what the program reads
    <sandbox>/work/out        OUT, absent at first; `work` is the folder above
    <sandbox>/tmp             TMPDIR
    <sandbox>/canary/         files that nobody may touch

A program's children stay ours when their parent ends, because this process takes
in orphans (Linux: PR_SET_CHILD_SUBREAPER); so all of them can be found and ended,
those too that left the process group. It is to be a process without other children.
"""

import ctypes
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

PR_SET_CHILD_SUBREAPER: Final = 36
SAMPLE_SECONDS: Final = 0.02
"""How often memory is looked at and the time limit is judged."""
MAX_OUTPUT_SIZE: Final = 1024 * 1024
"""Bytes of each output stream that are kept; a program that writes more meets a limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use."""

    seconds: float = 20.0
    memory_mib: int = 1024
    """Private resident memory of the program and all its descendants."""


@dataclass(frozen=True, slots=True)
class Finish:
    """How a program ended."""

    exit_status: int | None
    """None if it was ended by us."""
    signal: int | None
    hung: bool
    over_limit: str | None
    """What it used too much of."""
    stdout: str
    stderr: str
    seconds: float
    left_running: int
    """Descendants that had to be ended."""


Look = dict[str, tuple[object, ...]]
"""Path below a folder = what lies there; two looks are the same if nothing was touched."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The folders of one case."""

    root: Path

    @property
    def out(self) -> Path:
        """The output folder, absent at first."""
        return self.root / "work" / "out"

    def place(self, name: str, snapshot: bytes) -> Path:
        """Put the snapshot where the program reads it."""
        path = self.root / "in" / name
        path.write_bytes(snapshot)
        return path

    def look_outside(self) -> Look:
        """Look at everything but OUT and TMPDIR."""
        return {
            path: what
            for path, what in look(self.root).items()
            if path.split(os.sep)[0] != "tmp" and path.split(os.sep)[:2] != ["work", "out"]
        }


@contextmanager
def sandbox() -> Iterator[Sandbox]:
    """Make the folders of one case, and remove them."""
    root = Path(tempfile.mkdtemp(prefix="ekvconform."))
    try:
        for name in ("in", "work", "tmp", "canary", "canary/folder"):
            (root / name).mkdir()
        (root / "canary" / "file").write_bytes(b"precious\n")
        os.link(root / "canary" / "file", root / "canary" / "folder" / "other name")
        yield Sandbox(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def look(folder: Path) -> Look:
    """Look at everything below a folder; no link is followed."""
    found: Look = {}
    for base, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(base, name)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            content: object = None
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.sha256(file.read()).hexdigest()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            times = status.st_mtime_ns if kind == stat.S_IFREG else 0
            found[os.path.relpath(path, folder)] = (
                kind, stat.S_IMODE(status.st_mode), status.st_ino, status.st_nlink if kind == stat.S_IFREG else 0,
                times, content,
            )  # fmt: skip
    return found


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent has ended. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot adopt orphans")


def run_program(command: list[str], box: Sandbox, limits: Limits) -> Finish:
    """Run a program to its end or its limits. Raises `OSError` where it cannot be started."""
    adopt_orphans()
    with (box.root / "tmp" / ".stdout").open("w+b") as stdout, (box.root / "tmp" / ".stderr").open("w+b") as stderr:
        begin = time.monotonic()
        program = subprocess.Popen(
            command,
            cwd=box.root / "work",
            env={"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(box.root / "tmp"), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        hung, over_limit = _wait(program, (stdout, stderr), limits, begin)
        seconds = time.monotonic() - begin
        left_running = _end_all(program)
        over_limit = over_limit or _over_output(stdout, stderr)
        told = [_text_of(stream) for stream in (stdout, stderr)]
    code = program.returncode if not hung and over_limit is None else None
    return Finish(
        exit_status=code if code is not None and code >= 0 else None,
        signal=-code if code is not None and code < 0 else None,
        hung=hung,
        over_limit=over_limit,
        stdout=told[0],
        stderr=told[1],
        seconds=seconds,
        left_running=left_running,
    )


def _wait(
    program: "subprocess.Popen[bytes]", streams: tuple[BinaryIO, BinaryIO], limits: Limits, begin: float
) -> tuple[bool, str | None]:
    """Wait for the end of a program or of its patience; return whether it hung, and what it used too much of."""
    while True:
        with suppress(subprocess.TimeoutExpired):
            program.wait(SAMPLE_SECONDS)
            return False, None
        if time.monotonic() - begin > limits.seconds:
            return True, None
        pids = [program.pid, *descendants(program.pid)]
        if sum(map(private_memory, pids)) > limits.memory_mib * 1024 * 1024:
            return False, f"more than {limits.memory_mib} MiB of memory"
        if over_limit := _over_output(*streams):
            return False, over_limit


def _over_output(*streams: BinaryIO) -> str | None:
    if any(os.fstat(stream.fileno()).st_size > MAX_OUTPUT_SIZE for stream in streams):
        return f"more than {MAX_OUTPUT_SIZE} bytes of output"
    return None


def _text_of(stream: BinaryIO) -> str:
    stream.seek(0)
    return stream.read(MAX_OUTPUT_SIZE).decode("utf-8", "backslashreplace")


def _end_all(program: "subprocess.Popen[bytes]") -> int:
    """End the program and everything it has started; return how many others there were.

    Orphans come to this process, so whatever descends from it now was started by the program.
    """
    ended: set[int] = set()
    while True:
        if program.poll() is None:
            program.kill()
            program.wait()
        alive = descendants(os.getpid())
        if not alive:
            return len(ended)
        for pid in alive:
            ended.add(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)  # only what has come to us; the others come next time


def descendants(pid: int) -> list[int]:
    """Return all descendants of a process that are still running."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                # The name of a program stands in brackets and may hold anything.
                state, parent = file.read().rsplit(b")", 1)[1].split()[:2]
                if state != b"Z":
                    parents.setdefault(int(parent), []).append(int(name))
    found, pending = [], [pid]
    while pending:
        for child in parents.get(pending.pop(), []):
            found.append(child)
            pending.append(child)
    return found


def private_memory(pid: int) -> int:
    """Return the bytes that a process holds for itself; pages of mapped files do not count."""
    total = 0
    with suppress(OSError), open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith((b"RssAnon:", b"RssShmem:")):
                total += int(line.split()[1]) * 1024
    return total
