"""Reading below an open directory: files that are opened without following a link, and their hashes."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
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


PIECE_SIZE: Final = 1024 * 1024
"""Bytes that are hashed at a time, so that a signal is handled soon."""


@contextmanager
def opened(top: Directory, parts: Parts) -> Iterator[BinaryIO]:
    """Open a file below `top` for reading. Raises `OSError` for anything that is not a regular file."""
    with entered(top, parts[:-1]) as directory:
        descriptor = directory.open(parts[-1], READ_FILE)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENXIO, "a FIFO, socket, device or directory lies where a file belongs")
        yield file


def hash_file(top: Directory, parts: Parts) -> bytes:
    """Return the SHA-256 of a file, in hex. Raises `OSError`."""
    sha256 = hashlib.sha256()
    with opened(top, parts) as file:
        while piece := file.read(PIECE_SIZE):
            sha256.update(piece)
    return sha256.hexdigest().encode("ascii")
