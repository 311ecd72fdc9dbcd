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
from types import TracebackType
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
IN_THE_WAY: Final = {
    errno.ELOOP: "TREE-13",
    errno.ENXIO: "TREE-14",
    errno.EISDIR: "TREE-16",
    errno.ENOTDIR: "TREE-32",
    errno.ENOTEMPTY: "TREE-16",
    errno.EEXIST: "TREE-12",
    errno.ENOENT: "TREE-12",
}
"""Errors that mean that something else lies at a place than what may lie there, and the clause that says so."""

OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE_FILE: Final = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_FILE: Final = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
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
    """Return the folder of one database index. [TREE-1] [TREE-4] [TREE-28]"""
    return ("redis", f"db_{max(0, database)}")


class Sidecar:
    """An open sidecar: its file, the hash of its rows, and the inode that its name must lead to."""

    def __init__(self, descriptor: int) -> None:
        self.inode = inode_of(os.fstat(descriptor))
        self.sha256 = hashlib.sha256()
        self.file: BinaryIO = open(descriptor, "wb", buffering=SIDECAR_BUFFER_SIZE)

    def append(self, line: bytes) -> None:
        """Write one line."""
        self.sha256.update(line)
        self.file.write(line)


class FaultsAt:
    """A context in which an error of the file system becomes the fault that it stands for.

    An error met while another was on its way, such as a close that fails after a write
    that failed, carries that one along; all of them are reported. [TREE-27]
    """

    def __init__(self, out: str, parts: Folder) -> None:
        self._out = out
        self._parts = parts

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        faults: list[Fault] = []
        cause = error
        while isinstance(cause, OSError):
            faults.insert(0, fault_of(cause, os.path.join(self._out, *self._parts)))
            cause = cause.__context__
        if faults:
            raise first_of(faults) from error


class Tree:
    """The output folder of one run.

    Nothing is created before the first output. Every method raises `UnsafePath`,
    `NotEmpty`, `DiskFull` or `IoError`, with the path; then `abandon` is to be called.
    """

    def __init__(self, out: str) -> None:
        # A slash at the end would make the system follow a link at the last name. [TREE-10]
        self._out = out.rstrip("/") or out[:1]
        self._folders: dict[Folder, int] = {}
        """Folder = its handle; outer folders first."""
        self._sidecars: dict[Folder, Sidecar] = {}
        """Names from the output folder down to the sidecar's own = the open sidecar."""
        self._checksums = SortedPaths(self._open_unnamed)
        self._sealing = False

    # ---- folders ----

    def judge_out(self) -> None:
        """Refuse an output folder that must not be written to, without creating anything. [OUTC-5]"""
        with FaultsAt(self._out, ()):
            # [TREE-29] The folder above is the caller's; links on the way to it are followed. [TREE-10]
            parent = os.path.dirname(self._out) or "."
            if not self._out or not os.path.isdir(parent):
                raise IoError("TREE-29", "the folder above the output folder is not there", None, parent)
            try:
                status = os.stat(self._out, follow_symlinks=False)
            except FileNotFoundError:
                return
            judge_folder(status, self._out)
            handle = os.open(self._out, OPEN_FOLDER)
            try:
                self._require_empty(handle)
            finally:
                os.close(handle)

    def _require_empty(self, handle: int) -> None:
        # [TREE-7]
        with os.scandir(handle) as found:
            if any(True for _ in found):
                raise NotEmpty("TREE-7", "the output folder is not empty", None, self._out)

    def _folder(self, folder: Folder) -> int:
        """Return the handle of a folder, made and opened at its first use. [TREE-3] [TREE-12]"""
        handle = self._folders.get(folder)
        if handle is None:
            parent = self._folder(folder[:-1]) if folder else None
            with FaultsAt(self._out, folder):
                handle = self._open_folder(folder[-1] if folder else self._out, parent, self._shown(folder))
            self._folders[folder] = handle
            if not folder:
                self._require_empty(handle)
        return handle

    @staticmethod
    def _open_folder(name: str, parent: int | None, shown: str) -> int:
        # [TREE-6] One that is there already is opened and judged like a new one.
        with suppress(FileExistsError):
            os.mkdir(name, FOLDER_MODE, dir_fd=parent)
        # The look is for the verdict's words; the open judges for itself, in one step. [TREE-11]
        judge_folder(os.stat(name, dir_fd=parent, follow_symlinks=False), shown)
        return os.open(name, OPEN_FOLDER, dir_fd=parent)

    # ---- outputs ----

    def write(self, output: Blob | Row) -> None:
        """Write one output of the decoder."""
        if isinstance(output, Blob):
            self._publish((*output.folder, output.segment + BLOB_SUFFIX), (output.payload,))
            return
        place = (*output.folder, output.sidecar)
        with FaultsAt(self._out, place):
            if place not in self._sidecars:
                handle = self._folder(output.folder)
                self._sidecars[place] = Sidecar(open_sidecar(handle, output.sidecar, self._shown(place)))
            self._sidecars[place].append(output.line)

    def _publish(self, place: Folder, pieces: Iterable[bytes]) -> None:
        """Let a whole file appear under its name. [TREE-18] [TREE-19]"""
        handle = self._folder(place[:-1])
        with FaultsAt(self._out, place):
            sha256 = write_temporary(handle, pieces)
            self._rename_temporary(handle, place)
        self._checksums.add(path_of(place), sha256)

    def _rename_temporary(self, handle: int, place: Folder) -> None:
        name = place[-1]
        # The rename itself never follows a link and never writes through one; this look is for the
        # verdict of TREE-13 to TREE-17. What appears between the two is replaced, and so untouched.
        try:
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            judge_file(status, self._shown(place), is_blob=name.endswith(BLOB_SUFFIX))
        os.rename(TEMPORARY_NAME, name, src_dir_fd=handle, dst_dir_fd=handle)

    # ---- the end of a run ----

    def seal(self, manifest: bytes, *, sync: bool) -> None:
        """Close what is open, then let MANIFEST.json and CHECKSUMS appear. [TREE-22]

        `sync` says whether everything is flushed to disk first. [TREE-21]
        """
        faults = self._close_sidecars()
        if faults:
            raise first_of(faults)
        self._judge_places()
        for place, sidecar in self._sidecars.items():
            self._checksums.add(path_of(place), sidecar.sha256.hexdigest())

        self._sealing = True
        self._publish((MANIFEST_NAME,), (manifest,))
        out = self._folder(())
        with FaultsAt(self._out, (CHECKSUMS_NAME,)):
            write_temporary(out, self._checksums)
            if sync:
                sync_file_system(out)
            self._rename_temporary(out, (CHECKSUMS_NAME,))
        self._close_handles()

    def abandon(self) -> list[Fault]:
        """Give everything back after a fault, and leave no seal. [TREE-23]

        Returns what failed on the way. [TREE-27]
        """
        faults = self._close_sidecars()
        places = [(*folder, TEMPORARY_NAME) for folder in self._folders]
        if self._sealing:
            places += [(MANIFEST_NAME,), (CHECKSUMS_NAME,)]
        for place in places:
            try:
                with FaultsAt(self._out, place), suppress(FileNotFoundError):
                    os.unlink(place[-1], dir_fd=self._folders[place[:-1]])
            except Fault as fault:
                faults.append(fault)
        self._close_handles()
        return faults

    def _close_sidecars(self) -> list[Fault]:
        """Flush and close every sidecar; return every fault, not only the first. [TREE-27]"""
        faults: list[Fault] = []
        for place, sidecar in self._sidecars.items():
            try:
                with FaultsAt(self._out, place):
                    sidecar.file.close()
            except Fault as fault:
                faults.append(fault)
        return faults

    def _judge_places(self) -> None:
        """Refuse if a folder or sidecar is no longer what its name leads to. [TREE-12]"""
        for folder, handle in self._folders.items():
            self._judge_place(folder, inode_of(os.fstat(handle)))
        for place, sidecar in self._sidecars.items():
            self._judge_place(place, sidecar.inode)

    def _judge_place(self, place: Folder, inode: tuple[int, int]) -> None:
        name, parent = (place[-1], self._folders[place[:-1]]) if place else (self._out, None)
        with FaultsAt(self._out, place):
            found = inode_of(os.stat(name, dir_fd=parent, follow_symlinks=False))
        if found != inode:
            detail = "something else lies here than what was written to"
            raise UnsafePath("TREE-12", detail, None, self._shown(place))

    def _close_handles(self) -> None:
        self._checksums.close()
        for handle in self._folders.values():
            os.close(handle)
        self._folders.clear()
        self._sidecars.clear()

    def _open_unnamed(self) -> BinaryIO:
        """Open a temporary file without a name, on the disk that the dump goes to. [SUMS-6]"""
        handle = self._folder(())
        with FaultsAt(self._out, (TEMPORARY_NAME,)):
            descriptor = open_temporary(handle, os.O_RDWR)
            os.unlink(TEMPORARY_NAME, dir_fd=handle)
        return open(descriptor, "w+b")

    def _shown(self, place: Folder) -> str:
        return os.path.join(self._out, *place)


# ---- verdicts ----


def fault_of(error: OSError, path: str) -> Fault:
    """Return the fault that an error of the file system stands for."""
    words = error.strerror or str(error)
    if error.errno in NO_SPACE:
        return DiskFull("TREE-24", words, None, path)
    if error.errno in IN_THE_WAY:
        return UnsafePath(IN_THE_WAY[error.errno], words, None, path)
    return IoError("TREE-25", words, None, path)


def first_of(faults: list[Fault]) -> Fault:
    """Return the first of several faults, with the others behind it. [TREE-27]"""
    faults[0].also += tuple(faults[1:])
    return faults[0]


def judge_folder(status: os.stat_result, path: str) -> None:
    """Refuse what may not lie at the path of a folder. Raises `UnsafePath`."""
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        raise UnsafePath("TREE-13", "a symlink lies where a folder belongs", None, path)
    if stat.S_ISREG(mode):
        raise UnsafePath("TREE-32", "a file lies where a folder belongs", None, path)
    if not stat.S_ISDIR(mode):
        raise UnsafePath("TREE-14", "a FIFO, socket or device lies where a folder belongs", None, path)


def judge_file(status: os.stat_result, path: str, *, is_blob: bool) -> None:
    """Refuse what may not lie at the path of a file. Raises `UnsafePath`."""
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        raise UnsafePath("TREE-13", "a symlink lies where a file belongs", None, path)
    if stat.S_ISDIR(mode):
        raise UnsafePath("TREE-16", "a folder lies where a file belongs", None, path)
    if not stat.S_ISREG(mode):
        raise UnsafePath("TREE-14", "a FIFO, socket or device lies where a file belongs", None, path)
    # [TREE-15] [TREE-17] A sidecar would write into the inode; [TREE-31] a blob only takes its name.
    if not is_blob and status.st_nlink > 1:
        raise UnsafePath("TREE-15", "a hard link lies here: the file has other names", None, path)


# ---- single calls ----


def open_sidecar(handle: int, name: str, shown: str) -> int:
    """Open a sidecar for writing, new or emptied, relative to its folder.

    Raises `UnsafePath` or `OSError`.
    """
    with suppress(FileExistsError):
        return os.open(name, CREATE_FILE | os.O_WRONLY, FILE_MODE, dir_fd=handle)
    # [TREE-30] Opening a device can do something; this look spares it. The verdict is the handle's, below. [TREE-11]
    judge_file(os.stat(name, dir_fd=handle, follow_symlinks=False), shown, is_blob=False)
    descriptor = os.open(name, OPEN_FILE, dir_fd=handle)
    try:
        judge_file(os.fstat(descriptor), shown, is_blob=False)
        os.fchmod(descriptor, FILE_MODE)  # [TREE-5]
        os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_temporary(handle: int, access: int) -> int:
    """Create the temporary file of a folder and open it. [TREE-20]"""
    with suppress(FileExistsError):
        return os.open(TEMPORARY_NAME, CREATE_FILE | access, FILE_MODE, dir_fd=handle)
    # The name is ours; unlinking it touches neither a link's target nor a FIFO's reader.
    os.unlink(TEMPORARY_NAME, dir_fd=handle)
    return os.open(TEMPORARY_NAME, CREATE_FILE | access, FILE_MODE, dir_fd=handle)


def write_temporary(handle: int, pieces: Iterable[bytes]) -> str:
    """Write the temporary file of a folder; return the SHA-256 of what it holds, in hex."""
    descriptor = open_temporary(handle, os.O_WRONLY)
    sha256 = hashlib.sha256()
    try:
        for piece in pieces:
            sha256.update(piece)
            write_all(descriptor, piece)
    finally:
        os.close(descriptor)
    return sha256.hexdigest()


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`. [TREE-26]"""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written:])


def sync_file_system(handle: int) -> None:
    """Flush the file system of an open folder to disk: once, for all files. [TREE-21]"""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()  # a system without the call; it reports no errors
    elif syncfs(handle) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def inode_of(status: os.stat_result) -> tuple[int, int]:
    """Return what tells one file from every other: device and inode."""
    return status.st_dev, status.st_ino


def path_of(place: Folder) -> bytes:
    """Return a path as CHECKSUMS writes it. Segments and our own names are ASCII. [SUMS-1]"""
    return "/".join(place).encode("ascii")
