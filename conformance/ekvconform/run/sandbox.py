"""Runs a program once in a sandbox, and ends all its processes.

    <sandbox>/in/<snapshot>   what the program reads
    <sandbox>/work/out        OUT; `work` is the current directory
    <sandbox>/tmp             TMPDIR
    <sandbox>/canary/         files that must not be touched

This process is a child subreaper (PR_SET_CHILD_SUBREAPER): descendants of the program whose
parent has ended become its children. So all of them can be found and killed, even if they
left the process group. It must not have other children.
"""

import ctypes
import errno
import hashlib
import os
import re
import select
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from types import MappingProxyType
from typing import IO, Final, NamedTuple

from ekvconform.cases.errors import UsageError
from ekvconform.cases.golden_cases import Planted, Scene
from ekvconform.cases.limits import Limits
from ekvconform.cases.snapshots import write_snapshot
from ekvconform.run.time_limit import TimeLimit

PR_SET_CHILD_SUBREAPER: Final = 36
SAMPLE_MS: Final = 20
"""Interval at which the limits are checked."""
MAX_OUTPUT_SIZE: Final = 1024 * 1024
"""Bytes of each output stream; a program that writes more exceeds a limit."""
MAX_ENTRIES: Final = 100_000
"""Files and directories below OUT and TMPDIR; a program that makes more exceeds a limit."""
MAX_HASHED_SIZE: Final = 64 * 1024 * 1024
"""Largest file that is compared by content; a larger one is compared by its metadata."""
MAX_READ_SIZE: Final = 64 * 1024 * 1024
"""Largest file that is read into memory."""
PATIENCE: Final = 4
"""The files are walked again after so many times the duration of the last walk."""
END_SECONDS: Final = 10.0
"""Time that killed processes may take to disappear."""
UMASK: Final = 0o022
NULL_DEVICE: Final = os.makedev(1, 3)
PR_CAPBSET_DROP: Final = 24


@dataclass(frozen=True, slots=True)
class Finish:
    """How a program ended."""

    exit_status: int | None
    """None if it was killed by the judge."""
    signal: int | None
    hung: bool
    over_limit: str | None
    """The limit that was exceeded."""
    stdout: str
    stderr: str
    seconds: float
    left_running: int
    """Number of descendants that had to be killed."""


class StoppedError(Exception):
    """Raised when the verdict is not needed any more."""


# ---- recording the state of files ----


class Seen(NamedTuple):
    """Metadata and content of a file."""

    kind: int
    mode: int
    owner: tuple[int, int]
    inode: int
    links: int
    times: tuple[int, int]
    """Of a regular file, mtime and ctime in ns; else (0, 0), since a new entry changes those of a directory."""
    content: str | None
    """Hash of a regular file, target of a symlink."""


Look = dict[str, Seen]
"""Path from a directory, "." for itself = what is there. Two looks are equal if nothing was touched."""


def shown_path(path: bytes) -> str:
    r"""Return a path as text, with `\xHH` for a byte that is not UTF-8."""
    return path.decode("utf-8", "backslashreplace")


def place_of(directory: Path, path: bytes) -> bytes:
    """Return the full path of a path below a directory; "." is the directory itself."""
    return os.fsencode(directory) if path == b"." else os.path.join(os.fsencode(directory), path)


def iter_below(directory: Path, without: Collection[bytes] = ()) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield everything at and below a directory, by path from there; links are not followed. Raises `OSError`.

    Files that disappear during the walk are skipped, as are the paths of `without` with all below them.
    """
    pending = [b"."]
    while pending:
        path = pending.pop()
        place = place_of(directory, path)
        try:
            status = os.lstat(place)
            yield path, status
            if stat.S_ISDIR(status.st_mode):
                below = (name if path == b"." else os.path.join(path, name) for name in os.listdir(place))
                pending += [each for each in below if each not in without]
        except FileNotFoundError:
            continue


def look(directory: Path, without: Collection[bytes] = ()) -> Look:
    """Record everything at and below a directory; links are not followed. Raises `OSError`."""
    found: Look = {}
    for path, status in iter_below(directory, without):
        place = place_of(directory, path)
        is_file = stat.S_ISREG(status.st_mode)
        content = None
        if is_file and status.st_size <= MAX_HASHED_SIZE:
            content = hash_regular(place)
        elif stat.S_ISLNK(status.st_mode):
            content = shown_path(os.readlink(place))
        found[shown_path(path)] = Seen(
            stat.S_IFMT(status.st_mode),
            stat.S_IMODE(status.st_mode),
            (status.st_uid, status.st_gid),
            status.st_ino,
            status.st_nlink if is_file else 0,
            (status.st_mtime_ns, status.st_ctime_ns) if is_file else (0, 0),
            content,
        )
    return found


def read_regular(place: bytes, limit: int = MAX_READ_SIZE) -> bytes:
    """Read a regular file, without following a link or blocking. Raises `OSError`, also above `limit`."""
    with open_regular(place) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(f"{shown_path(place)}: more than {limit} bytes")
    return data


def hash_regular(place: bytes) -> str:
    """Return the SHA-256 of a regular file of any size, in hex. Raises `OSError`."""
    with open_regular(place) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_regular(place: bytes) -> BufferedReader:
    """Open a regular file, without following a link or blocking. Raises `OSError`."""
    descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    file = open(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise OSError(f"{shown_path(place)}: not a regular file")
    return file


def touched(before: Look, after: Look, may_lose: int = 0) -> list[str]:
    """Return the paths at which two looks outside OUT differ.

    When a hard link in OUT is replaced, the file outside that it was linked to loses a link. A file may lose
    `may_lose` links.
    """
    paths = before.keys() | after.keys()
    return sorted(path for path in paths if not _same(before.get(path), after.get(path), may_lose))


def _same(before: Seen | None, after: Seen | None, may_lose: int) -> bool:
    if before is None or after is None:
        return before is after
    if not may_lose:
        return before == after
    # Losing a link, or being renamed, changes only ctime.
    changed = before._replace(links=after.links, times=(before.times[0], after.times[1]))
    return changed == after and 0 <= before.links - after.links <= may_lose


# ---- preparing a run ----


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The directories of one case."""

    root: Path
    out: Path
    readers: dict[str, int] = field(default_factory=dict)
    """FIFO, from the directory above OUT = descriptor that reads it."""

    def arrange(self, scene: Scene) -> Path:
        """Create the files of a scene; return the path of its snapshot. Raises `OSError`."""
        for path, planted in scene.planted.items():
            place = self.root / "work" / os.fsdecode(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            plant(place, planted, self.root / "work")
            if planted.has_reader:
                self.readers[shown_path(path)] = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
        if scene.below_out:
            self.out.mkdir(exist_ok=True)
        snapshot = (self.out if scene.below_out else self.root / "in") / os.fsdecode(scene.snapshot_name)
        if scene.snapshot is not None or scene.described is not None:
            target = snapshot
            if scene.snapshot_is == "symlink":
                target = self.root / "in" / "target"
                snapshot.symlink_to(target)
            if scene.snapshot is not None:
                target.write_bytes(scene.snapshot)
            elif scene.described is not None:
                with target.open("wb") as file:
                    write_snapshot(scene.described, file)
        elif scene.snapshot_is == "directory":
            snapshot.mkdir()
        elif scene.snapshot_is == "fifo":
            os.mkfifo(snapshot)
        return snapshot

    def fed_readers(self) -> list[str]:
        """Return the FIFOs that something was written to."""
        return [path for path, reader in self.readers.items() if os.read(reader, 1)]

    @property
    def real_out(self) -> str:
        """OUT, with symlinks in the path to it resolved."""
        return os.path.join(os.path.realpath(self.out.parent), self.out.name)

    def look_outside(self, *without: bytes) -> Look:
        """Record everything except OUT, TMPDIR and `without`. Raises `OSError`."""
        return look(self.root, (*self._inside, *without))

    def directories_outside(self) -> Iterator[bytes]:
        """Yield the directories that are not OUT or TMPDIR, nor below them. Raises `OSError`."""
        for path, status in iter_below(self.root, self._inside):
            if stat.S_ISDIR(status.st_mode):
                yield place_of(self.root, path)

    @property
    def _inside(self) -> tuple[bytes, bytes]:
        """OUT and TMPDIR, from the sandbox."""
        return b"tmp", os.fsencode(os.path.relpath(self.real_out, self.root))


def plant(place: Path, planted: Planted, work: Path) -> None:
    """Create a file of a scene; targets of hard links are relative to `work`. Raises `OSError`."""
    if planted.kind == "directory":
        place.mkdir(exist_ok=True)
    elif planted.kind == "symlink":
        place.symlink_to(os.fsdecode(planted.target))
    elif planted.kind == "hard_link":
        os.link(work / os.fsdecode(planted.target), place)
    elif planted.kind == "fifo":
        os.mkfifo(place)
    elif planted.kind == "device":
        os.mknod(place, stat.S_IFCHR | 0o666, NULL_DEVICE)
    elif planted.kind == "socket":
        # The path of a socket must be short, so it goes through the descriptor of the directory.
        directory = os.open(place.parent, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{directory}/{place.name}")
        os.close(directory)
    else:
        place.write_bytes(planted.data)
    if planted.mode is not None:
        place.chmod(planted.mode)


def can_make_devices(directory: Path) -> bool:
    """Return True if this process is permitted to create a device node."""
    place = directory / "device"
    try:
        os.mknod(place, stat.S_IFCHR | 0o666, NULL_DEVICE)
    except PermissionError:
        return False
    place.unlink()
    return True


def make_sandbox(root: Path, scene: Scene) -> Sandbox:
    """Create the directories of one case in an empty directory. Raises `OSError`."""
    for name in ("in", "work", "tmp", "canary", "canary/directory", "canary/empty"):
        (root / name).mkdir()
    (root / "canary" / "file").write_bytes(b"precious\n")
    os.link(root / "canary" / "file", root / "canary" / "directory" / "other name")
    return Sandbox(root, root / "work" / os.fsdecode(scene.out))


TOUCHES: Final[Mapping[str, Callable[[Path], object]]] = MappingProxyType({
    "other bytes": lambda canary: (canary / "file").write_bytes(b"precious?"),
    "the same bytes again": lambda canary: (canary / "file").write_bytes(b"precious\n"),
    "truncated": lambda canary: os.truncate(canary / "file", 0),
    "another mode": lambda canary: (canary / "file").chmod(0o600),
    "other times": lambda canary: os.utime(canary / "file", ns=(0, 0)),
    "another link": lambda canary: os.link(canary / "file", canary / "third name"),
    "a link removed": lambda canary: (canary / "directory" / "other name").unlink(),
    "another file": lambda canary: (canary / "empty" / "new").touch(),
    "another directory": lambda canary: (canary / "new").mkdir(),
    "a directory removed": lambda canary: (canary / "empty").rmdir(),
    "the mode of a directory": lambda canary: (canary / "directory").chmod(0o700),
    "a file moved": lambda canary: (canary / "directory" / "other name").replace(canary / "empty" / "file"),
})  # fmt: skip
"""Ways of touching a canary."""


def require_working_canaries(directory: Path) -> int:
    """Touch the canaries in every way, check that each is detected, and return the number of ways.

    Raises `UsageError` if one is not: then the absence of detected changes proves nothing.
    """
    for number, (way, touch) in enumerate(TOUCHES.items()):
        root = directory / str(number)
        root.mkdir()
        box = make_sandbox(root, Scene())
        before = box.look_outside()
        if touched(before, box.look_outside()):
            raise UsageError("the canaries change without being touched")
        touch(root / "canary")
        if not touched(before, box.look_outside()):
            raise UsageError(f"the canaries do not work here: not detected: {way}")
    return len(TOUCHES)


def remove_sandbox(root: Path) -> None:
    """Remove a directory with everything in it. Raises `OSError` if something cannot be removed."""
    if not os.path.lexists(root):
        return
    pending = [os.fsencode(root)]
    while pending:  # its owner can make an inaccessible directory accessible
        directory = pending.pop()
        with suppress(OSError):
            if os.lstat(directory).st_mode & 0o700 != 0o700:
                os.chmod(directory, 0o700)
            with os.scandir(directory) as entries:
                pending += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    with suppress(OSError):
        for path, status in sorted(iter_below(root), reverse=True):  # children before parents
            (os.rmdir if stat.S_ISDIR(status.st_mode) else os.unlink)(place_of(root, path))
    if os.path.lexists(root):
        # Paths that are too long for one call, and whatever else is left.
        subprocess.run(["/bin/rm", "-rf", "--", str(root)], check=False, stderr=subprocess.DEVNULL)
    if os.path.lexists(root):
        raise OSError(f"{root}: cannot be removed")


# ---- running ----


def adopt_orphans() -> None:
    """Make this process a child subreaper. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot adopt orphans")


def drop_capabilities() -> None:
    """Drop all capabilities of programs that are started from now on. Raises `OSError` if that fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(64):
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 and ctypes.get_errno() != errno.EINVAL:
            if os.geteuid() == 0:
                raise OSError(ctypes.get_errno(), "the program cannot be run without privileges")
            return


def environment(box: Sandbox) -> dict[str, str]:
    """Return the environment of a program."""
    return {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(box.root / "tmp"), "LC_ALL": "C.UTF-8"}


def run_program(command: Sequence[str], box: Sandbox, limits: Limits, stop: int | None = None) -> Finish:
    """Run a program to its end or its limits.

    `stop` is a descriptor that becomes readable when the result is not needed any more: then `StoppedError`.
    Raises `OSError` if the program cannot be started or killed.
    """
    adopt_orphans()
    begin = time.monotonic()
    # Pipes, because a program could reopen a file and truncate what it has written.
    program = subprocess.Popen(
        command,
        cwd=box.root / "work",
        env=environment(box),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        umask=UMASK,
    )
    streams = [stream for stream in (program.stdout, program.stderr) if stream is not None]
    finish = Running(program.pid, streams, box, limits, begin, stop).finish()
    program.returncode = 0  # it has been waited for
    return finish


class Running:
    """A running program, and its output so far."""

    def __init__(
        self, pid: int, streams: Sequence[IO[bytes]], box: Sandbox, limits: Limits, begin: float, stop: int | None
    ) -> None:
        self._pid = pid
        self._streams = streams
        self._output = (bytearray(), bytearray())
        self._box = box
        self._limits = limits
        self._begin = begin
        self._time = TimeLimit(limits.seconds, begin)
        self._stop = stop
        self._hung = False
        self._over_limit: str | None = None
        for stream in self._streams:
            os.set_blocking(stream.fileno(), False)

    def finish(self, served: Mapping[int, Callable[[], None]] = MappingProxyType({})) -> Finish:
        """Wait for the end, kill remaining processes, and return how the program ended.

        A callback of `served` is called when its descriptor is readable. Raises `StoppedError`, `StarvedError`, or
        `OSError` if a process cannot be killed.
        """
        try:
            self._wait(served)
            seconds = time.monotonic() - self._begin
        finally:
            code, left_running = end_descendants(self._pid)
            self._read_rest()
        was_killed = self._hung or self._over_limit is not None
        return Finish(
            exit_status=code if code >= 0 and not was_killed else None,
            signal=-code if code < 0 and not was_killed else None,
            hung=self._hung,
            over_limit=self._over_limit,
            stdout=self._text(0),
            stderr=self._text(1),
            seconds=seconds,
            left_running=left_running,
        )

    def _wait(self, served: Mapping[int, Callable[[], None]]) -> None:
        """Wait until the program ends or exceeds a limit."""
        handle = os.pidfd_open(self._pid)
        next_look = next_walk = self._begin
        try:
            ended = select.poll()
            ended.register(handle, select.POLLIN)
            if self._stop is not None:
                ended.register(self._stop, select.POLLIN | select.POLLHUP)
            for descriptor in served:
                ended.register(descriptor, select.POLLIN)
            while True:
                events = dict(ended.poll(SAMPLE_MS))
                if self._stop in events:
                    raise StoppedError
                for descriptor, serve in served.items():
                    if events.get(descriptor, 0) & select.POLLIN:
                        serve()
                        self._time.note_progress(time.monotonic())
                now = time.monotonic()
                if handle not in events and now < next_look:
                    continue  # the limits are not due yet
                self._read()
                self._over_limit = None if handle in events else self._over_memory()
                next_look = now + SAMPLE_MS / 1000
                if handle in events or now >= next_walk:
                    self._over_limit = self._over_limit or self._over_files()
                    next_walk = time.monotonic() + PATIENCE * (time.monotonic() - now)
                if handle in events or self._over_limit:
                    return
                if self._time.is_reached(lambda: descendants(os.getpid()), now):
                    self._hung = True
                    return
        finally:
            os.close(handle)

    def _over_files(self) -> str | None:
        if any(len(output) > MAX_OUTPUT_SIZE for output in self._output):
            return f"more than {MAX_OUTPUT_SIZE} bytes of output"
        size, count = 0, 0
        for directory in (self._box.out, self._box.root / "tmp"):
            with suppress(OSError):  # an inaccessible directory is reported by the judge
                for _, status in iter_below(directory):
                    size += status.st_size if stat.S_ISREG(status.st_mode) else 0
                    count += 1
                    if count > MAX_ENTRIES:
                        return f"more than {MAX_ENTRIES} files and directories"
        limit = self._limits.files_mib
        return f"more than {limit} MiB of files" if size > limit * 1024 * 1024 else None

    def _over_memory(self) -> str | None:
        limit = self._limits.memory_mib
        processes = descendants(os.getpid())
        used = sum(map(private_memory, processes))
        if used > limit * 1024 * 1024:
            # Forked processes share unmodified pages; to account for them takes longer.
            used = sum(map(proportional_memory, processes))
        return f"more than {limit} MiB of memory" if used > limit * 1024 * 1024 else None

    def _read(self) -> None:
        for stream, output in zip(self._streams, self._output, strict=True):
            with suppress(BlockingIOError):
                while len(output) <= MAX_OUTPUT_SIZE and (piece := os.read(stream.fileno(), 65536)):
                    output += piece

    def _read_rest(self) -> None:
        """Read the rest of the pipes, when they have no writer any more, and close them."""
        self._read()
        if any(len(output) > MAX_OUTPUT_SIZE for output in self._output):
            self._over_limit = self._over_limit or f"more than {MAX_OUTPUT_SIZE} bytes of output"
        for stream in self._streams:
            stream.close()

    def _text(self, number: int) -> str:
        """Return the output on one of the two streams."""
        return bytes(self._output[number][:MAX_OUTPUT_SIZE]).decode("utf-8", "backslashreplace")


def end_descendants(program: int | None = None, spared: Collection[int] = ()) -> tuple[int, int]:
    """End all descendants of this process, but those spared and theirs.

    Returns the exit code of `program` (negative for a signal), and how many others there were. Orphans come
    to this process, so whatever descends from it was started by the program. Raises `OSError` for what does not end.
    """
    ended: set[int] = set()
    code = 0
    deadline = time.monotonic() + END_SECONDS
    while True:
        if not spared:
            try:
                while (waited := os.waitpid(-1, os.WNOHANG))[0]:
                    if waited[0] == program:
                        code = os.waitstatus_to_exitcode(waited[1])
            except ChildProcessError:
                return code, len(ended - {program})  # no children, so no descendants
        kept = {each for pid in spared for each in (pid, *descendants(pid))}
        alive = [pid for pid in descendants(os.getpid()) if pid not in kept]
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ended.update(alive)
        if spared:
            # One at a time: what is spared is another process's to wait for.
            rest = [pid for pid in _children(os.getpid()) if pid not in kept]
            for pid in rest:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            if not alive and not rest:
                return code, len(ended)
        if time.monotonic() > deadline:
            raise OSError(f"processes that do not end: {sorted(set(alive))}")
        if alive:
            time.sleep(0.001)


def _processes() -> dict[int, tuple[int, bool]]:
    """Return process = its parent, and whether anything of it still runs."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                # The name of a program stands in brackets and may hold anything.
                state, parent = file.read().rsplit(b")", 1)[1].split()[:2]
                # A process whose first thread has ended looks dead, and its others may go on.
                runs = state != b"Z" or len(os.listdir(f"/proc/{name}/task")) > 1
                found[int(name)] = (int(parent), runs)
    return found


def _children(pid: int) -> list[int]:
    return [child for child, (parent, _) in _processes().items() if parent == pid]


def descendants(pid: int) -> list[int]:
    """Return all descendants of a process of which anything still runs."""
    processes = _processes()
    children: dict[int, list[int]] = {}
    for child, (parent, _) in processes.items():
        children.setdefault(parent, []).append(child)
    found, pending = [], [pid]
    while pending:
        for child in children.get(pending.pop(), []):
            pending.append(child)
            if processes[child][1]:
                found.append(child)
    return found


PROPORTIONAL: Final = re.compile(rb"^Pss_(?:Anon|Shmem):\s+([0-9]+) kB", re.MULTILINE)


def proportional_memory(pid: int) -> int:
    """Return the bytes that a process holds for itself, each page counted to all that share it in equal parts."""
    with suppress(OSError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        return sum(map(int, PROPORTIONAL.findall(file.read()))) * 1024
    return 0


MEMORY: Final = re.compile(rb"^Rss(?:Anon|Shmem):\s+([0-9]+) kB", re.MULTILINE)


def private_memory(pid: int) -> int:
    """Return the bytes that a process holds for itself; pages of mapped files do not count."""
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # the first may have ended, and then says nothing
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/status", "rb") as file:
                if sizes := MEMORY.findall(file.read()):
                    return sum(map(int, sizes)) * 1024
    return 0
