"""Open folders, and what can be done in them without following a link.

No chapter of its own: this is what TREE-11 and TREE-38 ask of a platform. Two
classes do the same things, each with the safest calls that the platform has:

`HandleFolder`  every name is used relative to the handle of an open folder, and
                no call follows a link. Look and act are one step. [TREE-11]
`PathFolder`    for platforms without these calls: every name is used by its
                path, after all folders down to it have been looked at again.
                Another process can come in between. [TREE-38]

Every method raises `OSError`, or `UnsafePath` where something else lies at a
folder's place than what was opened.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

from ekvdump.format.outcomes import UnsafePath

FILE_MODE: Final = 0o600
"""Of every file. [TREE-5]"""
DIRECTORY_MODE: Final = 0o755
"""Of every folder, less the umask. [TREE-6]"""
MAX_DEPTH: Final = 512
"""Folders below one another that a walk goes down. [TREE-33]"""

MAX_PATH_SIZE: Final = 4000
"""Bytes of a path below the output folder. `sha256sum` opens no longer one. [TREE-33]"""

# A platform lacks some of these; then the flag is 0 and `PathFolder` looks instead.
NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
NO_BLOCK: Final = getattr(os, "O_NONBLOCK", 0)
CLOSE_ON_EXEC: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
ONLY_DIRECTORY: Final = getattr(os, "O_DIRECTORY", 0)

OPEN_DIRECTORY: Final = os.O_RDONLY | ONLY_DIRECTORY | NO_FOLLOW | CLOSE_ON_EXEC
CREATE_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_FOLLOW | CLOSE_ON_EXEC
WRITE_FILE: Final = os.O_WRONLY | NO_FOLLOW | NO_BLOCK | CLOSE_ON_EXEC
READ_FILE: Final = os.O_RDONLY | NO_FOLLOW | NO_BLOCK | CLOSE_ON_EXEC

HAS_HANDLES: Final = (
    bool(NO_FOLLOW and NO_BLOCK and ONLY_DIRECTORY)
    and {os.open, os.mkdir, os.stat, os.unlink, os.rename} <= os.supports_dir_fd
    and os.scandir in os.supports_fd
)
"""Whether the platform has what `HandleFolder` needs. [TREE-11]"""

Parts = tuple[str, ...]
"""Names from a folder down to a place below it; () is the folder itself."""
Inode = tuple[int, int]
"""What tells one file from every other: device and inode."""

FILE: Final = "file"
DIRECTORY: Final = "directory"
SYMLINK: Final = "symlink"
SPECIAL: Final = "special"
"""A FIFO, socket or device."""


class Directory(Protocol):
    """An open folder."""

    inode: Inode

    def enter(self, name: str) -> "Directory":
        """Open a folder in this one. Raises `OSError` for a link, and for anything else but a folder."""
        ...

    def make(self, name: str) -> None:
        """Make a folder in this one. [TREE-6]"""
        ...

    def look(self, name: str) -> os.stat_result:
        """Say what lies at a name, a link itself and not where it leads."""
        ...

    def create(self, name: str) -> int:
        """Create a file that was not there and open it for writing and reading; return the descriptor."""
        ...

    def open(self, name: str, flags: int) -> int:
        """Open a file that is there, with `WRITE_FILE` or `READ_FILE`; return the descriptor."""
        ...

    def unlink(self, name: str) -> None:
        """Remove a name. What it leads to is untouched."""
        ...

    def rename(self, name: str, target: str) -> None:
        """Give a file of this folder another name, in the place of what has it."""
        ...

    def iter_names(self) -> Iterator[tuple[str, str]]:
        """Yield each name in this folder, and `FILE`, `FOLDER`, `SYMLINK` or `SPECIAL`."""
        ...

    def close(self) -> None:
        """Give the handle back."""
        ...


class HandleDirectory:
    """An open folder, by its handle."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self.inode = inode_of(os.fstat(handle))

    def enter(self, name: str) -> "HandleDirectory":
        return HandleDirectory(os.open(name, OPEN_DIRECTORY, dir_fd=self._handle))

    def make(self, name: str) -> None:
        os.mkdir(name, DIRECTORY_MODE, dir_fd=self._handle)

    def look(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self._handle, follow_symlinks=False)

    def create(self, name: str) -> int:
        return os.open(name, CREATE_FILE, FILE_MODE, dir_fd=self._handle)

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
    """Go down to a folder below `top`, and close on the way back what was opened."""
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


def iter_tree(top: Directory, shown: str) -> Iterator[tuple[Parts, str]]:
    """Yield every place below `top` and its kind, in no order. One folder is open at a time.

    `shown` is the path of `top`, for the words of a refusal. [TREE-33]
    """
    pending: list[Parts] = [()]
    while pending:
        parts = pending.pop()
        room = MAX_PATH_SIZE - sum(len(os.fsencode(part)) + 1 for part in parts)
        with entered(top, parts) as directory:
            for name, kind in directory.iter_names():
                if len(os.fsencode(name)) > room:
                    detail = f"a path of more than {MAX_PATH_SIZE} bytes"
                    raise UnsafePath("TREE-33", detail, None, os.path.join(shown, *parts, name))
                if kind == DIRECTORY:
                    if len(parts) == MAX_DEPTH:
                        detail = f"more than {MAX_DEPTH} folders below one another"
                        raise UnsafePath("TREE-33", detail, None, os.path.join(shown, *parts, name))
                    pending.append((*parts, name))
                yield (*parts, name), kind


def _name_and_kind(entry: "os.DirEntry[str]") -> tuple[str, str]:
    if entry.is_symlink():
        return entry.name, SYMLINK
    if entry.is_dir(follow_symlinks=False):
        return entry.name, DIRECTORY
    return entry.name, FILE if entry.is_file(follow_symlinks=False) else SPECIAL


def inode_of(status: os.stat_result) -> Inode:
    """Return what tells one file from every other."""
    return status.st_dev, status.st_ino


def look_if_there(directory: Directory, name: str) -> os.stat_result | None:
    """Say what lies at a name, or None if nothing does."""
    try:
        return directory.look(name)
    except FileNotFoundError:
        return None


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, in pieces, so that a signal is answered soon. [TREE-26]"""
    written = os.write(descriptor, data) if len(data) <= WRITE_SIZE else 0
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written : written + WRITE_SIZE])


WRITE_SIZE: Final = 1024 * 1024
"""Bytes that one call is asked to write."""
