"""Errors of the file system as faults of the format. Implements part of spec chapter SAFE.

This is the one place where an `OSError` becomes a fault. The fault says which clause is
broken and at which path; what the system said is its detail.
"""

import errno
import os
import stat
import sys
import tempfile
from types import TracebackType
from typing import Final

from ekvformat.outcomes import Fault

NO_SPACE: Final = frozenset((errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)))
"""Errors that mean a full disk. [SAFE-28]"""
NO_SPACE_ON_WINDOWS: Final = frozenset((39, 112))
"""ERROR_HANDLE_DISK_FULL, ERROR_DISK_FULL. [SAFE-28]"""
IN_THE_WAY: Final = {
    errno.ELOOP: "SAFE-11",
    errno.ENXIO: "SAFE-12",
    errno.EISDIR: "SAFE-16",
    errno.ENOTDIR: "SAFE-17",
    errno.ENOTEMPTY: "SAFE-16",
    errno.EEXIST: "SAFE-8",
    errno.ENOENT: "SAFE-8",
}
"""Errors that mean that something unexpected is at a path, and the clause for each."""


class FaultsAt:
    """A context that turns an `OSError` into the fault for a path in the output directory.

    `clause` is that of an `io-error`. If a second error occurs while the first is handled, such as a
    failing close after a failing write, both are reported. [SAFE-31]
    """

    def __init__(self, out: str, parts: tuple[str, ...], clause: str = "SAFE-29") -> None:
        self._out = out
        self._parts = parts
        self._clause = clause
        self._before: BaseException | None = None

    def __enter__(self) -> None:
        # An exception that the caller is handling already is not part of this fault.
        self._before = sys.exc_info()[1]

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        faults: list[Fault] = []
        cause = error
        while isinstance(cause, OSError) and cause is not self._before:
            faults.insert(0, fault_of(cause, os.path.join(self._out, *self._parts), self._clause))
            cause = cause.__context__
        if faults:
            raise first_of(faults) from error


# ---- verdicts ----


def fault_of(error: OSError, path: str, clause: str = "SAFE-29") -> Fault:
    """Return the fault for an error of the file system; `clause` is that of an `io-error`."""
    words = error.strerror or str(error)
    if error.errno in NO_SPACE or getattr(error, "winerror", None) in NO_SPACE_ON_WINDOWS:
        return Fault("disk-full", "SAFE-28", words, None, path)
    if error.errno in IN_THE_WAY:
        return Fault("unsafe-path", IN_THE_WAY[error.errno], words, None, path)
    return Fault("io-error", clause, words, None, path)


def snapshot_fault(error: OSError, failed: str, path: str, offset: int | None = None) -> Fault:
    """Return the fault of a snapshot that cannot be opened or read; `failed` says which. [FILE-24]"""
    words = error.strerror or str(error)
    return Fault("io-error", "FILE-24", f"cannot {failed} the snapshot: {words}", offset, path)


def temporary_fault(error: OSError, clause: str) -> Fault:
    """Return the fault for an error of temporary files, with their directory if there is one. [SAFE-28]"""
    try:
        directory = tempfile.gettempdir()
    except OSError:
        return Fault("io-error", clause, "there is no directory for temporary files: set TMPDIR")
    fault = fault_of(error, directory, clause)
    return fault if fault.name == "disk-full" else Fault("io-error", clause, fault.detail, None, directory)


def check_spelling(path: str, clause: str) -> None:
    """Check that the system can take a path at all. Raises `io-error`.

    A command line cannot hold such a path, but a caller of the API can.
    """
    try:
        if b"\0" not in os.fsencode(path):
            return
        words = "a path cannot contain NUL"
    except UnicodeEncodeError:
        words = "a path cannot contain this character"
    shown = path.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")
    raise Fault("io-error", clause, words, None, shown)


def first_of(faults: list[Fault]) -> Fault:
    """Return the first of several faults, with the others in its `also`. [SAFE-31]"""
    faults[0].also += tuple(faults[1:])
    return faults[0]


def check_directory(status: os.stat_result, path: str) -> None:
    """Check that a directory may be used. Raises `unsafe-path`."""
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        raise Fault("unsafe-path", "SAFE-11", "a symlink lies where a directory belongs", None, path)
    if stat.S_ISREG(mode):
        raise Fault("unsafe-path", "SAFE-17", "a file lies where a directory belongs", None, path)
    if not stat.S_ISDIR(mode):
        raise Fault("unsafe-path", "SAFE-12", "a FIFO, socket or device lies where a directory belongs", None, path)


def check_file(status: os.stat_result, path: str, *, is_blob: bool) -> None:
    """Check that a file may be replaced or written. Raises `unsafe-path`."""
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        raise Fault("unsafe-path", "SAFE-11", "a symlink lies where a file belongs", None, path)
    if stat.S_ISDIR(mode):
        raise Fault("unsafe-path", "SAFE-16", "a directory lies where a file belongs", None, path)
    if not stat.S_ISREG(mode):
        raise Fault("unsafe-path", "SAFE-12", "a FIFO, socket or device lies where a file belongs", None, path)
    # [SAFE-14] [SAFE-18] A sidecar would write into the inode; [SAFE-15] a blob only takes its name.
    if not is_blob and status.st_nlink > 1:
        raise Fault("unsafe-path", "SAFE-14", "a hard link lies here: the file has other names", None, path)
