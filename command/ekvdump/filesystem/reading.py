"""Reading below an open directory: files that are opened without following a link, and their hashes."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, Final

from ekvdump.filesystem.by_path import PathDirectory
from ekvdump.filesystem.directories import (
    OPEN_DIRECTORY,
    READ_FILE,
    Directory,
    HandleDirectory,
    Parts,
    entered,
)


def open_top(path: str, *, handles: bool) -> Directory:
    """Open the directory at a path; if its last name is a link, the link is not followed."""
    return HandleDirectory(os.open(path, OPEN_DIRECTORY)) if handles else PathDirectory(path, None)


PIECE_SIZE: Final = 256 * 1024
"""Bytes that are hashed at a time, so that a signal is handled soon."""


@contextmanager
def opened(top: Directory, parts: Parts) -> Iterator[BinaryIO]:
    """Open a file below `top` for reading. Raises `OSError` for anything that is not a regular file."""
    with entered(top, parts[:-1]) as directory:
        descriptor = directory.open(parts[-1], READ_FILE)
    with open(descriptor, "rb") as file:
        check_regular(os.fstat(descriptor))
        yield file


def check_regular(status: os.stat_result) -> None:
    """Raise `OSError` for anything that is not a regular file."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.ENXIO, "a FIFO, socket, device or directory lies where a file belongs")


def hash_file(top: Directory, parts: Parts) -> bytes:
    """Return the SHA-256 of a file, in hex. Raises `OSError` for anything that is not a regular file."""
    with entered(top, parts[:-1]) as directory:
        return hash_in(directory, parts[-1])


def hash_in(directory: Directory, name: str) -> bytes:
    """Return the same for a file in an open directory."""
    descriptor = directory.open(name, READ_FILE)
    try:
        status = os.fstat(descriptor)
        check_regular(status)
        sha256 = hashlib.sha256()
        while piece := os.read(descriptor, min(status.st_size + 1, PIECE_SIZE)):
            sha256.update(piece)
    finally:
        os.close(descriptor)
    return sha256.hexdigest().encode("ascii")


class Hasher:
    """Hashes files below a directory one after another. The directory of the last one stays open for the next."""

    def __init__(self, top: Directory) -> None:
        self._top = top
        self._parts: Parts = ()
        self._directory = top
        self._opened = ExitStack()

    def hash(self, parts: Parts) -> bytes:
        """Return what `hash_file` returns."""
        if parts[:-1] != self._parts:
            self.close()
            self._directory = self._opened.enter_context(entered(self._top, parts[:-1]))
            self._parts = parts[:-1]
        return hash_in(self._directory, parts[-1])

    def close(self) -> None:
        """Close the directory that is open."""
        self._opened.close()
        self._directory, self._parts = self._top, ()
