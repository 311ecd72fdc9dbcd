"""The bytes of a snapshot file, read by position. Implements part of spec chapter FILE.

The rules this module lives by: a file is never mapped into memory, since a file that is
cut while it is read must give a fault and not a signal; no read is larger than its caller
asks for; and a file that changes while it is read is refused. [FILE-22] [FILE-23]
"""

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol, Self

import google_crc32c
from ekvformat.outcomes import Fault
from ekvformat.snapshot_file import FOOTER_SIZE, identity_of

from ekvdump.system_faults import check_spelling, snapshot_fault

Progress = Callable[[str, int, int], None]
"""Called with the stage of a run, how much of it is done, and how much there is."""


class Source(Protocol):
    """The bytes of a snapshot, read by position. [FILE-23]"""

    path: str
    size: int

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes from `offset` on; the caller has checked that they exist."""
        ...


READ_FLAGS: Final = (
    os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)
"""How a snapshot is opened; a platform may lack some of these."""
WINDOW_SIZE = 256 * 1024
"""Largest number of bytes that are read at a time, unless one entry needs more. [FILE-23]"""


SMALL_SIZE: Final = 4 * 1024
"""Most bytes that are read through a window of `WindowReader`."""
SMALL_WINDOW_SIZE: Final = 32 * 1024


class SnapshotFile:
    """An open snapshot. A context manager.

    Raises `io-error` if it cannot be opened or is not a regular file [FILE-24], and `changed`
    if it has changed since it was opened [FILE-22].
    """

    def __init__(self, path: str) -> None:
        self.path = path
        check_spelling(path, "FILE-24")
        try:
            # [FILE-24] A FIFO without a writer would block a plain open.
            self._fd = os.open(path, READ_FLAGS)
            status = os.fstat(self._fd)
        except OSError as error:
            raise snapshot_fault(error, "open", path) from error
        if not stat.S_ISREG(status.st_mode):
            os.close(self._fd)
            raise Fault("io-error", "FILE-24", "the snapshot is not a regular file", None, path)
        self.size = status.st_size
        self._identity = identity_of(status)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # nothing was written through it
            os.close(self._fd)

    def read(self, offset: int, size: int) -> bytes:
        """Return the `size` bytes from `offset` on."""
        try:
            data = os.pread(self._fd, size, offset)
            while len(data) < size:
                # One call returns at most 2 GiB, and may return less than asked for.
                more = os.pread(self._fd, size - len(data), offset + len(data))
                if not more:
                    raise Fault(
                        "changed", "FILE-22", "the snapshot became shorter while it was read", offset, self.path
                    )
                data += more
        except OSError as error:
            raise snapshot_fault(error, "read", self.path, offset) from error
        return data

    def check_unchanged(self) -> None:
        """Raise `changed` if the file has changed since it was opened. [FILE-22]"""
        try:
            # By its path and not by its handle, so that a file which replaced the open one is noticed.
            unchanged = identity_of(os.stat(self.path)) == self._identity
        except OSError:
            unchanged = False
        if not unchanged:
            raise Fault(
                "changed", "FILE-22", "size, inode or modification time changed while it was read", None, self.path
            )


class WindowReader:
    """Reads bytes that lie near one another by few calls: through a window of bounded size."""

    def __init__(self, source: Source) -> None:
        self.path = source.path
        self.size = source.size
        self._source = source
        self._window = b""
        self._offset = 0

    def read(self, offset: int, size: int) -> bytes:
        """Return the `size` bytes from `offset` on."""
        at = offset - self._offset
        if at < 0 or at + size > len(self._window):
            if size > SMALL_SIZE:
                return self._source.read(offset, size)
            self._window = self._source.read(offset, min(SMALL_WINDOW_SIZE, self.size - offset))
            self._offset, at = offset, 0
        return self._window[at : at + size]


class Crc32cReader:
    """Reads a snapshot forward and computes the CRC-32C of every byte it passes. [FILE-18]

    The last four bytes are not part of it until it is known that they are not a footer.
    """

    def __init__(self, source: Source) -> None:
        self.path = source.path
        self.size = source.size
        self._source = source
        self._crc = 0
        self._passed = 0

    def read(self, offset: int, size: int) -> bytes:
        """Return the `size` bytes from `offset` on, which is never behind an earlier read's offset."""
        self._pass_to(offset)
        data = self._source.read(offset, size)
        fresh = data[self._passed - offset : max(0, self.size - FOOTER_SIZE - offset)]
        self._crc = google_crc32c.extend(self._crc, fresh)
        self._passed += len(fresh)
        return data

    def crc32c_up_to(self, end: int) -> int:
        """Return the CRC-32C of the bytes before `end`, the end of the file or of what precedes a footer."""
        self._pass_to(end)
        return self._crc

    def _pass_to(self, offset: int) -> None:
        while self._passed < offset:
            data = self._source.read(self._passed, min(WINDOW_SIZE, offset - self._passed))
            self._crc = google_crc32c.extend(self._crc, data)
            self._passed += len(data)


READING: Final = "bytes"
"""The stage of a run that reads and checks the snapshot."""


class ProgressSource:
    """A snapshot that reports how far it has been read."""

    def __init__(self, source: Source, progress: Progress) -> None:
        self.path = source.path
        self.size = source.size
        self._source = source
        self._progress = progress

    def read(self, offset: int, size: int) -> bytes:
        """Return the `size` bytes from `offset` on."""
        self._progress(READING, offset + size, self.size)
        return self._source.read(offset, size)
