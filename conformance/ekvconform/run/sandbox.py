"""Runs a program once in a sandbox, and ends all its processes (`processes`).

<sandbox>/in/<snapshot>   what the program reads
<sandbox>/work/out        OUT; `work` is the current directory
<sandbox>/tmp             TMPDIR
<sandbox>/canary/         files that must not be touched
"""

import os
import select
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO, Final

from ekvconform.cases.errors import UsageError
from ekvconform.cases.golden_cases import Planted, Scene
from ekvconform.cases.limits import Limits
from ekvconform.cases.snapshots import write_snapshot
from ekvconform.run.looks import Look, iter_below, look, place_of, shown_path, touched
from ekvconform.run.processes import adopt_orphans, descendants, end_descendants, private_memory, proportional_memory
from ekvconform.run.time_limit import TimeLimit

SAMPLE_MS: Final = 20
"""Interval at which the limits are checked."""
MAX_OUTPUT_SIZE: Final = 1024 * 1024
"""Bytes of each output stream; a program that writes more exceeds a limit."""
MAX_ENTRIES: Final = 100_000
"""Files and directories below OUT and TMPDIR; a program that makes more exceeds a limit."""
PATIENCE: Final = 4
"""The files are walked again after so many times the duration of the last walk."""
UMASK: Final = 0o022
NULL_DEVICE: Final = os.makedev(1, 3)


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
