"""Open directories: operations that do not follow links, and walks down a tree.

Two classes implement the protocol `Directory`, each with the safest calls of its platform:

`HandleDirectory`  uses every name relative to the handle of an open directory, with calls that
                   do not follow links. Check and action are one step. [SAFE-6]
`PathDirectory`    uses paths, for platforms without these calls. [SAFE-7]

Every method raises `OSError`, or `unsafe-path` if the path of a directory leads to something
else than the directory that was opened.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

from ekvformat.outcomes import Fault

from ekvdump.system_faults import FaultsAt

FILE_MODE: Final = 0o600
"""Mode of every file. [TREE-7]"""
DIRECTORY_MODE: Final = 0o755
"""Mode of every directory, before the umask. [TREE-8]"""
MAX_DEPTH: Final = 512
"""Levels of directories that a walk descends. [INTO-1]"""

MAX_PATH_SIZE: Final = 4000
"""Largest size in bytes of a path below the output directory; `sha256sum` cannot open longer ones. [INTO-1]"""

# A flag that the platform lacks is 0; `PathDirectory` checks the file type instead.
NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
NO_BLOCK: Final = getattr(os, "O_NONBLOCK", 0)
CLOSE_ON_EXEC: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
ONLY_DIRECTORY: Final = getattr(os, "O_DIRECTORY", 0)

OPEN_DIRECTORY: Final = os.O_RDONLY | ONLY_DIRECTORY | NO_FOLLOW | CLOSE_ON_EXEC
CREATE_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_FOLLOW | CLOSE_ON_EXEC
WRITE_FILE: Final = os.O_WRONLY | NO_FOLLOW | NO_BLOCK | CLOSE_ON_EXEC
READ_FILE: Final = os.O_RDONLY | NO_FOLLOW | NO_BLOCK | CLOSE_ON_EXEC

DESCRIPTORS: Final = "/proc/self/fd/"
"""Where the system shows the open files of a process, and a file without a name can be linked from."""
UNNAMED: Final = getattr(os, "O_TMPFILE", 0)
HAS_UNNAMED: Final = bool(UNNAMED) and os.path.isdir(DESCRIPTORS)
"""True if the platform has files without a name; not every file system has."""
CREATE_UNNAMED: Final = os.O_RDWR | UNNAMED | CLOSE_ON_EXEC
NO_UNNAMED: Final = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)
"""Errors of a file system, or of a kernel, that has no files without a name."""
HAS_HANDLES: Final = (
    bool(NO_FOLLOW and NO_BLOCK and ONLY_DIRECTORY)
    and {os.open, os.mkdir, os.stat, os.unlink, os.rename} <= os.supports_dir_fd
    and os.scandir in os.supports_fd
)
"""True if the platform has the calls that `HandleDirectory` needs. [SAFE-6]"""

Parts = tuple[str, ...]
"""The names on the path from a directory down to a place below it; () is the directory itself."""
Inode = tuple[int, int]
"""Device and inode, which identify a file."""

FILE: Final = "file"
DIRECTORY: Final = "directory"
SYMLINK: Final = "symlink"
SPECIAL: Final = "special"
"""A FIFO, socket or device."""


class Directory(Protocol):
    """An open directory."""

    inode: Inode

    def enter(self, name: str) -> "Directory":
        """Open a subdirectory. Raises `OSError` for a link and for anything that is not a directory."""
        ...

    def make(self, name: str) -> None:
        """Create a subdirectory. [TREE-8]"""
        ...

    def look(self, name: str) -> os.stat_result:
        """Return the status of what has this name; of a link itself, not of its target."""
        ...

    def create(self, name: str) -> int:
        """Create a new file, open it for writing and reading, and return its descriptor."""
        ...

    def create_unnamed(self) -> int | None:
        """Create a file without a name, open it for writing, and return its descriptor; None if that cannot be done."""
        ...

    def link(self, descriptor: int, name: str) -> None:
        """Give a file without a name this name. Raises `FileExistsError` if anything has it."""
        ...

    def open(self, name: str, flags: int) -> int:
        """Open an existing file with `WRITE_FILE` or `READ_FILE` and return its descriptor."""
        ...

    def unlink(self, name: str) -> None:
        """Remove a name. The target of a link is not touched."""
        ...

    def rename(self, name: str, target: str) -> None:
        """Rename a file within this directory, replacing the file that has the new name."""
        ...

    def iter_names(self) -> Iterator[tuple[str, str]]:
        """Yield each name in this directory with its kind: `FILE`, `DIRECTORY`, `SYMLINK` or `SPECIAL`."""
        ...

    def close(self) -> None:
        """Close the handle."""
        ...


class HandleDirectory:
    """An open directory, used by its handle."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self.inode = inode_of(os.fstat(handle))
        self._has_unnamed = HAS_UNNAMED

    def enter(self, name: str) -> "HandleDirectory":
        return HandleDirectory(os.open(name, OPEN_DIRECTORY, dir_fd=self._handle))

    def make(self, name: str) -> None:
        os.mkdir(name, DIRECTORY_MODE, dir_fd=self._handle)

    def look(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self._handle, follow_symlinks=False)

    def create(self, name: str) -> int:
        return os.open(name, CREATE_FILE, FILE_MODE, dir_fd=self._handle)

    def create_unnamed(self) -> int | None:
        if not self._has_unnamed:
            return None
        try:
            return os.open(".", CREATE_UNNAMED, FILE_MODE, dir_fd=self._handle)
        except OSError as error:
            if error.errno not in NO_UNNAMED:
                raise
            self._has_unnamed = False
            return None

    def link(self, descriptor: int, name: str) -> None:
        os.link(f"{DESCRIPTORS}{descriptor}", name, dst_dir_fd=self._handle, follow_symlinks=True)

    def open(self, name: str, flags: int) -> int:
        return os.open(name, flags, dir_fd=self._handle)

    def unlink(self, name: str) -> None:
        os.unlink(name, dir_fd=self._handle)

    def rename(self, name: str, target: str) -> None:
        os.rename(name, target, src_dir_fd=self._handle, dst_dir_fd=self._handle)

    def iter_names(self) -> Iterator[tuple[str, str]]:
        with os.scandir(self._handle) as found:
            yield from map(_name_and_kind, found)

    def close(self) -> None:
        with suppress(OSError):  # nothing was written through it
            os.close(self._handle)


@contextmanager
def entered(top: Directory, parts: Parts) -> Iterator[Directory]:
    """Open a directory below `top`, as a context; every directory opened on the way is closed."""
    directory = top
    try:
        for name in parts:
            inner = directory.enter(name)
            if directory is not top:
                directory.close()
            directory = inner
        yield directory
    finally:
        if directory is not top:
            directory.close()


def iter_tree(top: Directory, shown: str, clause: str = "SAFE-29") -> Iterator[tuple[Parts, str]]:
    """Yield every place below `top` with its kind, in no particular order. One directory is open at a time.

    `shown` is the path of `top` for messages. Raises `unsafe-path` if the tree is too deep or a path is too
    long [INTO-1] [VERI-23], and `io-error`, with `clause`, for a directory that cannot be listed.
    """
    pending: list[Parts] = [()]
    while pending:
        parts = pending.pop()
        room = MAX_PATH_SIZE - sum(len(os.fsencode(part)) + 1 for part in parts)
        with FaultsAt(shown, parts, clause), entered(top, parts) as directory:
            for name, kind in directory.iter_names():
                if len(os.fsencode(name)) > room:
                    detail = f"a path of more than {MAX_PATH_SIZE} bytes"
                    raise Fault("unsafe-path", "INTO-1", detail, None, os.path.join(shown, *parts, name))
                if kind == DIRECTORY:
                    if len(parts) == MAX_DEPTH:
                        detail = f"more than {MAX_DEPTH} directories below one another"
                        raise Fault("unsafe-path", "INTO-1", detail, None, os.path.join(shown, *parts, name))
                    pending.append((*parts, name))
                yield (*parts, name), kind


def _name_and_kind(entry: "os.DirEntry[str]") -> tuple[str, str]:
    if entry.is_symlink():
        return entry.name, SYMLINK
    if entry.is_dir(follow_symlinks=False):
        return entry.name, DIRECTORY
    return entry.name, FILE if entry.is_file(follow_symlinks=False) else SPECIAL


def inode_of(status: os.stat_result) -> Inode:
    """Return the device and inode of a file."""
    return status.st_dev, status.st_ino


def look_if_there(directory: Directory, name: str) -> os.stat_result | None:
    """Return the status of what has this name, or None if nothing has it."""
    try:
        return directory.look(name)
    except FileNotFoundError:
        return None


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, in pieces, so that a signal is handled soon. [SAFE-30]"""
    written = os.write(descriptor, data) if len(data) <= WRITE_SIZE else 0
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written : written + WRITE_SIZE])


WRITE_SIZE: Final = 1024 * 1024
"""Largest number of bytes in one call of `write`."""
