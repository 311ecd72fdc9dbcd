"""Runs a program once, in folders of its own, and leaves nothing of it running.

    <sandbox>/in/<snapshot>   what the program reads
    <sandbox>/work/out        OUT; `work` is the folder above, and the current one
    <sandbox>/tmp             TMPDIR
    <sandbox>/canary/         files that nobody may touch

A program's children stay ours when their parent ends, because this process takes
in orphans (Linux: PR_SET_CHILD_SUBREAPER); so all of them can be found and ended,
those too that left the process group. It is to be a process without other children.
"""

import ctypes
import hashlib
import os
import select
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from ekvconform.cases import Planted, Scene

PR_SET_CHILD_SUBREAPER: Final = 36
SAMPLE_MS: Final = 20
"""How often the limits are looked at while a program runs."""
MAX_OUTPUT_SIZE: Final = 1024 * 1024
"""Bytes of each output stream that are kept; a program that writes more meets a limit."""
UMASK: Final = 0o022


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use."""

    seconds: float = 20.0
    memory_mib: int = 1024
    """Private resident memory of the program and all its descendants, sampled every `SAMPLE_MS`."""
    files_mib: int = 1024
    """Everything below OUT and TMPDIR."""


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


class Seen(NamedTuple):
    """What lies somewhere."""

    kind: int
    mode: int
    inode: int
    links: int
    mtime_ns: int
    content: str | None
    """Of a file a hash, of a link its target."""


Look = dict[str, Seen]
"""Path below a folder = what lies there; two looks are the same if nothing was touched."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The folders of one case."""

    root: Path
    out: Path

    def arrange(self, scene: Scene) -> Path:
        """Set a scene; return the path of its snapshot. Raises `OSError`."""
        for path, planted in scene.planted.items():
            place = self.root / "work" / os.fsdecode(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            plant(place, planted, self.root / "work")
        if scene.below_out:
            self.out.mkdir(exist_ok=True)
        snapshot = (self.out if scene.below_out else self.root / "in") / os.fsdecode(scene.snapshot_name)
        if scene.snapshot is not None:
            snapshot.write_bytes(scene.snapshot)
        elif scene.snapshot_is == "folder":
            snapshot.mkdir()
        elif scene.snapshot_is == "fifo":
            os.mkfifo(snapshot)
        return snapshot

    def look_outside(self) -> Look:
        """Look at everything but OUT and TMPDIR."""
        # The links of the path that leads to OUT are followed, as a program does.
        out = os.path.join(os.path.realpath(self.out.parent), self.out.name)
        inside = ("tmp", os.path.relpath(out, os.path.realpath(self.root)))
        return {
            path: what
            for path, what in look(self.root).items()
            if not any(path == each or path.startswith(each + os.sep) for each in inside)
        }


def plant(place: Path, planted: Planted, work: Path) -> None:
    """Put something where a case wants it; `work` is where hard links count from. Raises `OSError`."""
    if planted.kind == "folder":
        place.mkdir(exist_ok=True)
    elif planted.kind == "symlink":
        place.symlink_to(os.fsdecode(planted.target))
    elif planted.kind == "hard_link":
        os.link(work / os.fsdecode(planted.target), place)
    elif planted.kind == "fifo":
        os.mkfifo(place)
    else:
        place.write_bytes(planted.data)
    if planted.mode is not None:
        place.chmod(planted.mode)


def make_sandbox(root: Path, scene: Scene) -> Sandbox:
    """Make the folders of one case in an empty one. Raises `OSError`."""
    for name in ("in", "work", "tmp", "canary", "canary/folder"):
        (root / name).mkdir()
    (root / "canary" / "file").write_bytes(b"precious\n")
    os.link(root / "canary" / "file", root / "canary" / "folder" / "other name")
    return Sandbox(root, root / "work" / os.fsdecode(scene.out))


@contextmanager
def sandbox(scene: Scene) -> Iterator[Sandbox]:
    """Make the folders of one case, and remove them. Raises `OSError`."""
    root = Path(tempfile.mkdtemp(prefix="ekvconform."))
    try:
        yield make_sandbox(root, scene)
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
            content = None
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.sha256(file.read()).hexdigest()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            is_file = kind == stat.S_IFREG
            found[os.path.relpath(path, folder)] = Seen(
                kind,
                stat.S_IMODE(status.st_mode),
                status.st_ino,
                status.st_nlink if is_file else 0,
                status.st_mtime_ns if is_file else 0,
                content,
            )
    return found


def touched(before: Look, after: Look, scene: Scene) -> list[str]:
    """Return the paths that two looks outside of OUT differ at."""
    # A hard link in OUT may be replaced, and the file outside that it was a name of has one name less.
    may_lose = sum(planted.kind == "hard_link" for planted in scene.planted.values())
    return sorted(
        path for path in before.keys() | after.keys() if not _same(before.get(path), after.get(path), may_lose)
    )


def _same(before: Seen | None, after: Seen | None, may_lose: int) -> bool:
    if before is None or after is None:
        return before is after
    return before._replace(links=0) == after._replace(links=0) and 0 <= before.links - after.links <= may_lose


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent has ended. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot adopt orphans")


def environment(box: Sandbox) -> dict[str, str]:
    """Return all variables that a program is given."""
    return {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(box.root / "tmp"), "LC_ALL": "C.UTF-8"}


def run_program(command: Sequence[str], box: Sandbox, limits: Limits) -> Finish:
    """Run a program to its end or its limits. Raises `OSError` where it cannot be started."""
    adopt_orphans()
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        begin = time.monotonic()
        program = subprocess.Popen(
            command,
            cwd=box.root / "work",
            env=environment(box),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            umask=UMASK,
        )
        try:
            hung, over_limit = _wait(program, (stdout, stderr), box, limits, begin)
            seconds = time.monotonic() - begin
        finally:
            left_running = _end_all(program)
        over_limit = over_limit or _over_output((stdout, stderr), box, limits)
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
    program: "subprocess.Popen[bytes]", streams: Sequence[BinaryIO], box: Sandbox, limits: Limits, begin: float
) -> tuple[bool, str | None]:
    """Wait for the end of a program or of its patience; return whether it hung, and what it used too much of."""
    handle = os.pidfd_open(program.pid)
    try:
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        while not ended.poll(SAMPLE_MS):
            if time.monotonic() - begin > limits.seconds:
                return True, None
            if sum(map(private_memory, descendants(os.getpid()))) > limits.memory_mib * 1024 * 1024:
                return False, f"more than {limits.memory_mib} MiB of memory"
            if over_limit := _over_output(streams, box, limits):
                return False, over_limit
        program.wait()
        return False, None
    finally:
        os.close(handle)


def _over_output(streams: Sequence[BinaryIO], box: Sandbox, limits: Limits) -> str | None:
    if any(os.fstat(stream.fileno()).st_size > MAX_OUTPUT_SIZE for stream in streams):
        return f"more than {MAX_OUTPUT_SIZE} bytes of output"
    size = sum(size_below(folder) for folder in (box.out, box.root / "tmp"))
    return f"more than {limits.files_mib} MiB of files" if size > limits.files_mib * 1024 * 1024 else None


def size_below(folder: Path) -> int:
    """Return the bytes of all files below a folder; what vanishes meanwhile does not count."""
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(base, name)).st_size
    return total


def _text_of(stream: BinaryIO) -> str:
    stream.seek(0)
    return stream.read(MAX_OUTPUT_SIZE).decode("utf-8", "backslashreplace")


def _end_all(program: "subprocess.Popen[bytes]") -> int:
    """End the program and everything it has started; return how many others there were.

    Orphans come to this process, so whatever descends from it now was started by the program.
    """
    ended: set[int] = set()
    if program.poll() is None:
        program.kill()
        program.wait()
    while True:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass  # what has ended by itself
            alive = descendants(os.getpid())
            ended.update(alive)
            for pid in alive:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)
            continue
        return len(ended)  # there are no children, so there are no descendants


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
