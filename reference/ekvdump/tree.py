"""The dump tree: the one module that writes. Implements spec chapter TREE.

    <out>/MANIFEST.json
    <out>/CHECKSUMS
    <out>/redis/db_<n>/strings/<segment>.bin
    <out>/redis/db_<n>/strings_ttl.jsonl
    <out>/redis/db_<n>/hll/<segment>.bin
    <out>/redis/db_<n>/hll_ttl.jsonl
    <out>/redis/db_<n>/KEYMAP.jsonl

The rules this module lives by: every name is used relative to the handle of a
folder that was itself opened without following a link [TREE-11]; what was opened
is judged by its handle; and what could not be judged so is not touched.
"""

import ctypes
import errno
import hashlib
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import BinaryIO, Final, NamedTuple

from ekvdump.checksums import SortedPaths
from ekvdump.outcomes import DiskFull, Fault, IoError, NotEmpty, UnsafePath

FILE_MODE: Final = 0o600
"""Of every file. [TREE-5]"""
FOLDER_MODE: Final = 0o755
"""Of every folder, less the umask. [TREE-6]"""
TEMPORARY_NAME: Final = ".ekvdump.tmp"
"""What a file is called before it is whole. [TREE-20]"""
MANIFEST_NAME: Final = "MANIFEST.json"
CHECKSUMS_NAME: Final = "CHECKSUMS"
BLOB_SUFFIX: Final = ".bin"
"""Behind the segment. [TREE-2]"""

NO_SPACE: Final = frozenset((errno.ENOSPC, errno.EDQUOT))
"""Errors that mean a full disk. [TREE-24]"""
IN_THE_WAY: Final = frozenset(
    (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENXIO, errno.ENOENT)
)
"""Errors that mean that something else lies at a place than may lie there. [TREE-13] [TREE-14] [TREE-16]"""

OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_FILE: Final = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
OPEN_UNNAMED: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
SIDECAR_BUFFER_SIZE: Final = 64 * 1024

Folder = tuple[str, ...]
"""Names of the folders from the output folder down; () is the output folder."""


class Blob(NamedTuple):
    """One payload, for a file of its own. An output of the decoder."""

    folder: Folder
    segment: str
    payload: bytes


class Row(NamedTuple):
    """One line of a sidecar. An output of the decoder."""

    folder: Folder
    sidecar: str
    line: bytes


def redis_folder(database: int) -> Folder:
    """Return the folder of one database index. [TREE-1] [TREE-4]"""
    return ("redis", f"db_{max(0, database)}")


class Sidecar:
    """An open sidecar: its rows, their hash, and the inode that its name must lead to."""

    def __init__(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self.identity = (status.st_dev, status.st_ino)
        self.sha256 = hashlib.sha256()
        self.file: BinaryIO = open(descriptor, "wb", buffering=SIDECAR_BUFFER_SIZE)

    def append(self, line: bytes) -> None:
        """Write one line."""
        self.sha256.update(line)
        self.file.write(line)


class Tree:
    """The output folder of one run.

    Nothing is created before the first output. Every method raises `UnsafePath`,
    `NotEmpty`, `DiskFull` or `IoError`, with the path.
    """

    def __init__(self, out: str) -> None:
        # A slash at the end would make the system follow a link at the last name. [TREE-10]
        self._out = out.rstrip("/") or "/"
        self._folders: dict[Folder, int] = {}
        self._sidecars: dict[tuple[Folder, str], Sidecar] = {}
        self._checksums = SortedPaths(self._open_unnamed)
        self._sealing = False

    # ---- the output folder ----

    def judge_out(self) -> None:
        """Refuse what must not be written to, without creating anything. [OUTC-5]"""
        try:
            descriptor = os.open(self._out, OPEN_FOLDER)
        except FileNotFoundError:
            self._judge_parent()
        except (OSError, ValueError) as error:
            raise self._fault(error, ()) from error
        else:
            try:
                self._require_empty(descriptor)
            finally:
                os.close(descriptor)

    def _judge_parent(self) -> None:
        # [TREE-8] The folder above is the caller's; links on the way to it are followed. [TREE-10]
        parent = os.path.dirname(self._out) or "."
        if not os.path.isdir(parent):
            raise IoError("TREE-8", "the folder above the output folder does not exist", None, parent)
        if os.path.lexists(self._out):
            raise UnsafePath("TREE-13", "a link that leads nowhere", None, self._out)

    def _require_empty(self, descriptor: int) -> None:
        # [TREE-7]
        with os.scandir(descriptor) as found:
            if any(True for _ in found):
                raise NotEmpty("TREE-7", "the output folder is not empty", None, self._out)

    def _folder(self, folder: Folder) -> int:
        """Return the handle of a folder, made and opened at its first use. [TREE-3] [TREE-12]"""
        descriptor = self._folders.get(folder)
        if descriptor is not None:
            return descriptor
        try:
            if folder:
                parent, name = self._folder(folder[:-1]), folder[-1]
                descriptor = self._make_folder(name, parent)
            else:
                descriptor = self._make_folder(self._out, None)
        except OSError as error:
            raise self._fault(error, folder) from error
        if not folder:
            self._require_empty(descriptor)
        self._folders[folder] = descriptor
        return descriptor

    @staticmethod
    def _make_folder(name: str, parent: int | None) -> int:
        # [TREE-6] One that is there already is opened and judged like a new one. [TREE-11]
        with suppress(FileExistsError):
            os.mkdir(name, FOLDER_MODE, dir_fd=parent)
        return os.open(name, OPEN_FOLDER, dir_fd=parent)

    # ---- blobs and sidecars ----

    def write(self, output: Blob | Row) -> None:
        """Write one output of the decoder."""
        if isinstance(output, Blob):
            name = output.segment + BLOB_SUFFIX
            self._publish(output.folder, name, (output.payload,))
        else:
            self._sidecar(output.folder, output.sidecar).append(output.line)

    def _publish(self, folder: Folder, name: str, pieces: Iterable[bytes], *, guarded: bool = False) -> None:
        """Let a whole file appear under its name. [TREE-18] [TREE-19]"""
        handle = self._folder(folder)
        sha256 = hashlib.sha256()
        try:
            descriptor = self._create_temporary(handle)
            try:
                for piece in pieces:
                    sha256.update(piece)
                    write_all(descriptor, piece)
            finally:
                os.close(descriptor)
            if guarded:
                self._sync(handle)
            self._judge_target(handle, name, guarded=guarded)
            os.rename(TEMPORARY_NAME, name, src_dir_fd=handle, dst_dir_fd=handle)
        except OSError as error:
            raise self._fault(error, (*folder, name)) from error
        self._checksums.add("/".join((*folder, name)).encode("ascii"), sha256.hexdigest())
