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

    # ---- blobs ----

    def write(self, output: Blob | Row) -> None:
        """Write one output of the decoder."""
        if isinstance(output, Blob):
            self._publish(output.folder, output.segment + BLOB_SUFFIX, (output.payload,))
        else:
            self._append(output)

    def _publish(self, folder: Folder, name: str, pieces: Iterable[bytes]) -> None:
        """Let a whole file appear under its name. [TREE-18] [TREE-19]"""
        handle = self._folder(folder)
        try:
            sha256 = self._write_temporary(handle, pieces)
            self._rename_temporary(handle, name)
        except OSError as error:
            raise self._fault(error, (*folder, name)) from error
        except UnsafePath as fault:
            raise UnsafePath(fault.clause, fault.detail, None, self._shown((*folder, name))) from None
        self._checksums.add("/".join((*folder, name)).encode("ascii"), sha256)

    @staticmethod
    def _write_temporary(handle: int, pieces: Iterable[bytes]) -> str:
        """Write the temporary file of a folder and return the SHA-256 of what it holds."""
        try:
            descriptor = os.open(TEMPORARY_NAME, CREATE_FILE, FILE_MODE, dir_fd=handle)
        except FileExistsError:
            # [TREE-20] The name is ours; unlinking touches neither a link's target nor a FIFO's reader.
            os.unlink(TEMPORARY_NAME, dir_fd=handle)
            descriptor = os.open(TEMPORARY_NAME, CREATE_FILE, FILE_MODE, dir_fd=handle)
        sha256 = hashlib.sha256()
        try:
            for piece in pieces:
                sha256.update(piece)
                write_all(descriptor, piece)
        finally:
            os.close(descriptor)
        return sha256.hexdigest()

    @staticmethod
    def _rename_temporary(handle: int, name: str) -> None:
        # The rename itself never follows a link and never writes through one; this look is for the
        # verdict of TREE-13 to TREE-17. What appears between the two is replaced, and so untouched.
        try:
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            judge_file(status, is_blob=name.endswith(BLOB_SUFFIX))
        os.rename(TEMPORARY_NAME, name, src_dir_fd=handle, dst_dir_fd=handle)

    # ---- sidecars ----

    def _append(self, row: Row) -> None:
        place = (row.folder, row.sidecar)
        try:
            sidecar = self._sidecars.get(place)
            if sidecar is None:
                handle = self._folder(row.folder)
                sidecar = self._sidecars[place] = Sidecar(open_sidecar(handle, row.sidecar))
            sidecar.append(row.line)
        except OSError as error:
            raise self._fault(error, (*row.folder, row.sidecar)) from error
        except UnsafePath as fault:
            raise UnsafePath(fault.clause, fault.detail, None, self._shown((*row.folder, row.sidecar))) from None

    def _close_sidecars(self) -> list[Fault]:
        """Flush and close every sidecar; return every fault, not only the first. [TREE-27]"""
        faults: list[Fault] = []
        for (folder, name), sidecar in self._sidecars.items():
            try:
                sidecar.file.close()
            except OSError as error:
                faults.append(self._fault(error, (*folder, name)))
        return faults

    # ---- the seal ----

    def seal(self, manifest: bytes, *, sync: bool) -> None:
        """Close what is open, then let MANIFEST.json and CHECKSUMS appear. [TREE-22]

        `sync` says whether everything is flushed to disk first. [TREE-21]
        """
        faults = self._close_sidecars()
        if faults:
            faults[0].also = tuple(faults[1:])
            raise faults[0]
        self._judge_places()
        for (folder, name), sidecar in self._sidecars.items():
            self._checksums.add("/".join((*folder, name)).encode("ascii"), sidecar.sha256.hexdigest())
        self._sidecars.clear()

        self._sealing = True
        self._publish((), MANIFEST_NAME, (manifest,))
        out = self._folder(())
        try:
            self._write_temporary(out, self._checksums)
            if sync:
                sync_file_system(out)
            self._rename_temporary(out, CHECKSUMS_NAME)
        except OSError as error:
            raise self._fault(error, (CHECKSUMS_NAME,)) from error
        except UnsafePath as fault:
            raise UnsafePath(fault.clause, fault.detail, None, self._shown((CHECKSUMS_NAME,))) from None
        self._close_handles()

    def _judge_places(self) -> None:
        """Refuse if a folder or sidecar is no longer what its name leads to. [TREE-12]"""
        for folder, handle in self._folders.items():
            parent = self._folders[folder[:-1]] if folder else None
            status = os.fstat(handle)
            self._judge_place(folder, parent, folder[-1] if folder else self._out, (status.st_dev, status.st_ino))
        for (folder, name), sidecar in self._sidecars.items():
            self._judge_place((*folder, name), self._folders[folder], name, sidecar.identity)

    def _judge_place(self, parts: Folder, parent: int | None, name: str, identity: tuple[int, int]) -> None:
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            raise self._fault(error, parts) from error
        if (status.st_dev, status.st_ino) != identity:
            detail = "something else lies here than what was written to"
            raise UnsafePath("TREE-12", detail, None, self._shown(parts))

    def abandon(self) -> list[Fault]:
        """Give everything back after a fault, leaving no seal. [TREE-23] Returns what failed on the way. [TREE-27]"""
        faults = self._close_sidecars()
        self._sidecars.clear()
        names = [(handle, TEMPORARY_NAME) for handle in self._folders.values()]
        if self._sealing:
            names += [(self._folders[()], MANIFEST_NAME), (self._folders[()], CHECKSUMS_NAME)]
        for handle, name in names:
            try:
                os.unlink(name, dir_fd=handle)
            except FileNotFoundError:
                pass
            except OSError as error:
                faults.append(self._fault(error, (name,)))
        self._close_handles()
        return faults

    def _close_handles(self) -> None:
        self._checksums.close()
        for handle in self._folders.values():
            os.close(handle)
        self._folders.clear()

    def _open_unnamed(self) -> BinaryIO:
        """Open a temporary file without a name, on the disk that the dump goes to. [SUMS-6]"""
        handle = self._folder(())
        try:
            descriptor = os.open(TEMPORARY_NAME, OPEN_UNNAMED, FILE_MODE, dir_fd=handle)
            os.unlink(TEMPORARY_NAME, dir_fd=handle)
        except OSError as error:
            raise self._fault(error, (TEMPORARY_NAME,)) from error
        return open(descriptor, "w+b")

    # ---- faults ----

    def _shown(self, parts: Folder) -> str:
        return os.path.join(self._out, *parts)

    def _fault(self, error: Exception, parts: Folder) -> Fault:
        """Return the fault that an error of the file system stands for."""
        path = self._shown(parts)
        number = error.errno if isinstance(error, OSError) else None
        words = os.strerror(number) if number else str(error)
        if number in NO_SPACE:
            return DiskFull("TREE-24", words, None, path)
        if number in IN_THE_WAY:
            clause = "TREE-13" if number == errno.ELOOP else "TREE-14" if number == errno.ENXIO else "TREE-16"
            return UnsafePath(clause, words, None, path)
        return IoError("TREE-25", words, None, path)


def judge_file(status: os.stat_result, *, is_blob: bool) -> None:
    """Refuse what may not lie at the path of a file. Raises `UnsafePath`."""
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        raise UnsafePath("TREE-13", "a symlink lies here")
    if stat.S_ISDIR(mode):
        raise UnsafePath("TREE-16", "a folder lies here")
    if not stat.S_ISREG(mode):
        raise UnsafePath("TREE-14", "a FIFO, socket or device lies here")
    # [TREE-15] [TREE-17] A blob replaces the name and leaves the inode alone; a sidecar would write into it.
    if not is_blob and status.st_nlink > 1:
        raise UnsafePath("TREE-15", "a hard link lies here: the file has other names")


def open_sidecar(handle: int, name: str) -> int:
    """Open a sidecar for writing, new or emptied, relative to its folder. Raises `UnsafePath` or `OSError`."""
    try:
        return os.open(name, CREATE_FILE, FILE_MODE, dir_fd=handle)
    except FileExistsError:
        pass
    # Opening a device can do something; this look spares it. The verdict is the handle's, below.
    judge_file(os.stat(name, dir_fd=handle, follow_symlinks=False), is_blob=False)
    descriptor = os.open(name, OPEN_FILE, dir_fd=handle)
    try:
        judge_file(os.fstat(descriptor), is_blob=False)
        os.fchmod(descriptor, FILE_MODE)  # [TREE-5]
        os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`. [TREE-26]"""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written:])


def sync_file_system(descriptor: int) -> None:
    """Flush the file system of an open folder to disk: once, for all files. [TREE-21]"""
    try:
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
    except AttributeError:
        os.sync()  # a system without the call; it reports no errors
        return
    if syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
