"""Bytes that are written once and read often: in memory while they are few, else in a temporary file without a name.

The file is in the system's directory for temporary files (`TMPDIR`). It is in no tree, and
is gone when the run is, however that ends. [SAFE-5]
"""

import tempfile
from typing import IO, Final

from ekvdump.system_faults import temporary_fault

SPOOL_SIZE = 4 * 1024 * 1024
"""Bytes that one spool holds in memory; all of them go into the file as soon as there are more."""
BATCH_SIZE: Final = 256 * 1024
"""Bytes that are collected for one write to the file."""


class Spool:
    """Bytes that are appended, and read at any position.

    Raises `disk-full` or `io-error` where the temporary file cannot be made, written or read. [SAFE-28] [SAFE-29]
    """

    def __init__(self) -> None:
        self._fresh = bytearray()
        """What is not in the file yet."""
        self._file: IO[bytes] | None = None
        self._file_size = 0
        self._limit = SPOOL_SIZE
        """Size of `_fresh` from which on it is written to the file."""

    def append(self, data: bytes) -> None:
        """Append bytes."""
        self._fresh += data
        if len(self._fresh) >= self._limit:
            self._write()

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset` on."""
        if self._file is None:
            return bytes(self._fresh[offset : offset + size])
        if self._fresh:
            self._write()
        try:
            self._file.seek(offset)
            return self._file.read(size)
        except OSError as error:
            raise temporary_fault(error, "SAFE-29") from error

    def _write(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()
                self._limit = BATCH_SIZE
            self._file.seek(self._file_size)
            self._file.write(self._fresh)
            self._file.flush()
        except OSError as error:
            raise temporary_fault(error, "SAFE-29") from error
        self._file_size += len(self._fresh)
        self._fresh.clear()

    def close(self) -> None:
        """Give up the bytes."""
        self._fresh.clear()
        if self._file is not None:
            self._file.close()
