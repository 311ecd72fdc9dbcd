"""How a dump is written: the one module that writes. Implements spec chapters SAFE and INTO.

The rules this file lives by: every name is used relative to the handle of a
directory that was itself opened without following a link; what was opened is judged
by its handle [SAFE-6]; the seal is the first thing to go and the last to come.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

from ekvformat.checksums import CHECKSUMS_NAME, render_checksum_line, sha256_of
from ekvformat.completeness import DumpWarning, warn
from ekvformat.decode import Dump, Summary
from ekvformat.manifest import MANIFEST_NAME, MAX_MANIFEST_SIZE, Provenance, check_size, render_manifest
from ekvformat.outcomes import Fault, text_of_path
from ekvformat.tree import DATABASE_NAME, DIRECTORY_MODE, FILE_MODE, SIDECARS, SUFFIXES, database_directory

TEMPORARY_NAME: Final = ".ekvdump.tmp"
"""Name of a file before it is whole. [SAFE-21]"""
SEAL: Final = (CHECKSUMS_NAME, MANIFEST_NAME)
"""Files that no failed run leaves, in the order in which they are removed. [SAFE-27] [INTO-4]"""
MAX_STALE_EXAMPLES: Final = 16
"""Most paths that the warning shows. [INTO-6]"""
MAX_DEPTH: Final = 512
"""Most directories below one another. [INTO-1]"""
MAX_PATH_SIZE: Final = 4000
"""Most bytes of a path below the output directory. [INTO-1]"""

OPEN: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""No open follows a link, waits for a FIFO [SAFE-13], or is inherited."""
OPEN_DIRECTORY: Final = OPEN | os.O_RDONLY | os.O_DIRECTORY
CREATE_FILE: Final = OPEN | os.O_WRONLY | os.O_CREAT | os.O_EXCL
NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a full disk. [SAFE-28]"""
IN_THE_WAY: Final = {
    errno.ELOOP: "SAFE-11",
    errno.ENXIO: "SAFE-12",
    errno.EISDIR: "SAFE-16",
    errno.ENOTEMPTY: "SAFE-16",
    errno.ENOTDIR: "SAFE-17",
    errno.EEXIST: "SAFE-8",
    errno.ENOENT: "SAFE-8",
}
"""Errors of a call that met something else than what may be there = the clause that says so."""

FILE: Final = "regular file"
DIRECTORY: Final = "directory"
SYMLINK: Final = "symlink"
SPECIAL: Final = "FIFO, socket or device"
CLAUSE_OF_KIND: Final = {SYMLINK: "SAFE-11", SPECIAL: "SAFE-12", DIRECTORY: "SAFE-16", FILE: "SAFE-17"}
"""What may be at a path where something else belongs = the clause that refuses it."""

Place = tuple[str, ...]
"""Names from the output directory down to a file or directory; () is the output directory itself."""
Inode = tuple[int, int]
"""Tells one file from every other: device and inode."""


class Tree:
    """The output directory of one run: `check`, then `write`.

    Both raise `not-empty`, `unsafe-path`, `disk-full` or `io-error`, with the path.
    """

    def __init__(self, out: str, database: int, into_existing: bool, *, sync: bool) -> None:
        # [SAFE-5] With a slash at its end the system would follow a link at `out` itself.
        self.out = out.rstrip("/") or out[:1]
        self.own: Place = tuple(database_directory(database).split("/"))
        self.into_existing = into_existing
        self.sync = sync
        self.handles: dict[Place, int] = {}
        """Every directory that was opened, outer ones first."""
        self.sha256s: dict[Place, bytes] = {}
        """Every file that was written = the hash of what it holds."""
        self.inodes: dict[Place, Inode] = {}
        """Every directory and sidecar that was written to. [SAFE-8]"""
        self.removable: list[Place] = []
        """Files that must not stay if the run fails. [SAFE-27] [SAFE-24]"""

    # ---- before the first write ----

    def check(self, snapshot: str) -> None:
        """Check the output directory without changing anything; `snapshot` is the path of the snapshot. [OUTC-6]"""
        with faults_at(self.out):
            # [SAFE-3] Links on the way to `out` are the caller's, and are followed. [SAFE-5]
            parent = os.path.dirname(self.out) or "."
            if not self.out or not os.path.isdir(parent):
                raise Fault("io-error", "SAFE-3", "the directory above the output directory is missing", None, parent)
            if os.path.lexists(self.out):
                top = open_directory(self.out, None, self.out)
                try:
                    self.check_contents(top)
                finally:
                    os.close(top)

        # [INTO-2] It could be overwritten before it is decoded.
        if os.path.realpath(snapshot).startswith(os.path.join(os.path.realpath(self.out), "")):
            raise Fault("unsafe-path", "INTO-2", "the snapshot is in the output directory", None, snapshot)

    def check_contents(self, top: int) -> list[Place]:
        """Refuse what may not be in the output directory; return the leftovers of killed runs."""
        # [SAFE-1]
        if not self.into_existing:
            if os.listdir(top):
                raise Fault("not-empty", "SAFE-1", "the output directory is not empty", None, self.out)
            return []
        # [INTO-1] All of it is looked at before any of it is changed.
        files = list(self.iter_files(top))
        for name in SEAL:
            check_file(look(top, name), self.path_of((name,)), is_blob=False)
        # [INTO-3]
        return [place for place in files if place[-1] == TEMPORARY_NAME]

    def iter_files(self, top: int) -> Iterator[Place]:
        """Yield every regular file; refuse everything that may not be in the tree. [INTO-1]"""
        for place, kind in iter_tree(top, self.out):
            above, name = place[:-1], place[-1]
            belongs = kind if kind in (FILE, DIRECTORY) else FILE
            if place == self.own[: len(place)] or (above == self.own and name in SUFFIXES):
                belongs = DIRECTORY
            elif name == TEMPORARY_NAME or (above == self.own and name in SIDECARS):
                belongs = FILE
            check_kind(kind, belongs, self.path_of(place))
            if kind == FILE:
                yield place

    # ---- writing ----

    def write(self, dump: Dump, provenance: Provenance, check_snapshot: Callable[[], None]) -> list[DumpWarning]:
        """Write a dump; return its warnings, those of the tree included.

        `check_snapshot` raises if the snapshot is not what was decoded. [FILE-22]
        """
        try:
            earlier_manifest = self.unseal()
            for path, content in dump.blobs.items():
                self.publish(tuple(path.split("/")), content)
            for path, content in dump.sidecars.items():
                self.write_sidecar(tuple(path.split("/")), content)
            check_snapshot()
            return self.seal(dump.summary, provenance, earlier_manifest)
        except BaseException as error:
            # [SAFE-24] An interrupted run ends like one that fails.
            self.roll_back(error)
            raise
        finally:
            for handle in self.handles.values():
                os.close(handle)

    def unseal(self) -> bytes:
        """Open the output directory and remove its seal; return the MANIFEST.json that was there."""
        with faults_at(self.out):
            # [SAFE-2]
            with suppress(FileExistsError):
                os.mkdir(self.out, DIRECTORY_MODE)
            top = self.handles[()] = open_directory(self.out, None, self.out)
            self.inodes[()] = inode_of(os.fstat(top))
            # [OUTC-6] Once more: it may not be what it was when it was first checked.
            leftovers = self.check_contents(top)
            earlier_manifest = b""
            if look(top, MANIFEST_NAME):
                earlier_manifest = read_file(top, (MANIFEST_NAME,), MAX_MANIFEST_SIZE + 1)  # [INTO-7]
            # [INTO-4] Right before the first write.
            seal = [(name,) for name in SEAL if self.into_existing]
            self.removable += seal
            for place in (*seal, *leftovers):
                with entered(top, place[:-1]) as above, suppress(FileNotFoundError):
                    os.unlink(place[-1], dir_fd=above)
        return earlier_manifest

    def directory(self, place: Place) -> int:
        """Return the handle of a directory, which is made if something is to be in it. [TREE-5]"""
        if place not in self.handles:
            above, name = self.directory(place[:-1]), place[-1]
            with faults_at(self.path_of(place)):
                with suppress(FileExistsError):
                    os.mkdir(name, DIRECTORY_MODE, dir_fd=above)
                self.handles[place] = open_directory(name, above, self.path_of(place))
                self.inodes[place] = inode_of(os.fstat(self.handles[place]))
        return self.handles[place]

    def publish(self, place: Place, content: bytes) -> None:
        """Make a whole file appear under its name. [SAFE-19] [SAFE-20]"""
        above = self.directory(place[:-1])
        with faults_at(self.path_of(place)):
            inode = self.write_temporary(above, (*place[:-1], TEMPORARY_NAME), content)
            self.name_temporary(above, place, inode)
        self.sha256s[place] = sha256_of(content)

    def write_temporary(self, above: int, temporary: Place, content: bytes) -> Inode:
        """Write a file under its temporary name."""
        # Noted before it is there: an interrupt may come at any moment. [SAFE-24]
        self.removable.append(temporary)
        # [SAFE-21] The name is ours. Unlinking it touches neither what a link leads to
        # nor who reads a FIFO.
        try:
            descriptor = os.open(TEMPORARY_NAME, CREATE_FILE, FILE_MODE, dir_fd=above)
        except FileExistsError:
            os.unlink(TEMPORARY_NAME, dir_fd=above)
            descriptor = os.open(TEMPORARY_NAME, CREATE_FILE, FILE_MODE, dir_fd=above)
        return write_all(descriptor, content)

    def name_temporary(self, above: int, place: Place, inode: Inode) -> None:
        """Give the temporary file its name."""
        name = place[-1]
        # A rename follows no link and writes through none, so what appears behind this
        # look is replaced and stays untouched. [SAFE-15]
        check_file(look(above, name), self.path_of(place), is_blob=name not in SEAL)
        if name in SEAL:
            self.removable.append(place)
        os.rename(TEMPORARY_NAME, name, src_dir_fd=above, dst_dir_fd=above)
        self.removable.remove((*place[:-1], TEMPORARY_NAME))
        # [SAFE-10] Something else may have been put in the place of the temporary file.
        if inode_of(os.stat(name, dir_fd=above, follow_symlinks=False)) != inode:
            raise self.unsafe(place, "SAFE-10", "something else is here than the file that was written")

    def write_sidecar(self, place: Place, content: bytes) -> None:
        """Write a sidecar, new or in the place of an older one."""
        above, name, path = self.directory(place[:-1]), place[-1], self.path_of(place)
        with faults_at(path):
            try:
                descriptor = os.open(name, CREATE_FILE, FILE_MODE, dir_fd=above)
            except FileExistsError:
                # [SAFE-13] Opening a device may do something; this look spares it.
                check_file(os.stat(name, dir_fd=above, follow_symlinks=False), path, is_blob=False)
                descriptor = os.open(name, OPEN | os.O_WRONLY, dir_fd=above)
            self.inodes[place] = write_all(descriptor, content, check=partial(check_file, path=path, is_blob=False))
        self.sha256s[place] = sha256_of(content)

    # ---- the end of a run ----

    def seal(self, summary: Summary, provenance: Provenance, earlier_manifest: bytes) -> list[DumpWarning]:
        """Write MANIFEST.json when everything else is whole, and CHECKSUMS last. [SAFE-23]"""
        top = self.handles[()]
        with faults_at(self.out):
            there = {place for place, kind in iter_tree(top, self.out) if kind == FILE}
            others = set(self.iter_files(top)) - set(self.sha256s) if self.into_existing else set()
        # [SAFE-9] Two names may be one to a file system, and then one of the files is gone.
        if missing := sorted(set(self.sha256s) - there):
            self.check_places()  # where a directory is another one, that is why
            raise self.unsafe(missing[0], "SAFE-9", "a file that was written is not there under its name")

        warnings = summary.warnings + self.warnings_of_stale(others)
        databases = self.databases_of(others)
        manifest = render_manifest(summary, provenance, warnings, databases, earlier_manifest)
        self.publish((MANIFEST_NAME,), check_size(manifest, self.path_of((MANIFEST_NAME,))))
        with faults_at(self.path_of((CHECKSUMS_NAME,))):
            checksums = self.render_checksums(top, others)
            inode = self.write_temporary(top, (TEMPORARY_NAME,), checksums)
            # [SAFE-22] One flush serves all files.
            if self.sync:
                os.sync()
            self.check_places()
            self.name_temporary(top, (CHECKSUMS_NAME,), inode)
        return warnings

    def warnings_of_stale(self, others: set[Place]) -> list[DumpWarning]:
        """Return the warning about files that this run did not write. They stay. [INTO-5] [INTO-6]"""
        stale = sorted(encoded(place) for place in others if place[: len(self.own)] == self.own)
        about = tuple(text_of_path(os.fsdecode(path)) for path in stale[:MAX_STALE_EXAMPLES])
        return warn("stale-file", len(stale), about)

    def databases_of(self, others: set[Place]) -> list[int]:
        """Return the indexes whose directory holds a file. [MANI-10]"""
        names = [place[1] for place in (*self.sha256s, *others) if len(place) > 2 and place[0] == "redis"]
        return sorted({int(match[1]) for name in names if (match := DATABASE_NAME.fullmatch(name))})

    def render_checksums(self, top: int, others: set[Place]) -> bytes:
        """Render a line for every regular file, in bytewise order of the paths. [SUMS-1] [SUMS-3]"""
        sha256s = {encoded(place): sha256 for place, sha256 in self.sha256s.items()}
        for place in others:
            with faults_at(self.path_of(place)):
                sha256s[encoded(place)] = sha256_of(read_file(top, place))
        return b"".join(render_checksum_line(path, sha256s[path]) for path in sorted(sha256s))

    def check_places(self) -> None:
        """Refuse if a directory or sidecar is no longer what its path leads to. [SAFE-8]"""
        for place, inode in self.inodes.items():
            with faults_at(self.path_of(place)):
                above = self.handles[place[:-1]] if place else None
                status = os.stat(place[-1] if place else self.out, dir_fd=above, follow_symlinks=False)
            if inode_of(status) != inode:
                raise self.unsafe(place, "SAFE-8", "something else is here than what was written to")

    def roll_back(self, error: BaseException) -> None:
        """Remove what must not stay; what fails on the way is reported with `error`. [SAFE-31]"""
        for place in reversed(self.removable):
            try:
                with faults_at(self.path_of(place)), suppress(FileNotFoundError):
                    os.unlink(place[-1], dir_fd=self.handles[place[:-1]])
            except Fault as fault:
                if isinstance(error, Fault):
                    error.also += (fault,)

    def path_of(self, place: Place) -> str:
        """Return the path of a place, for a fault. [OUTC-2]"""
        return os.path.join(self.out, *place)

    def unsafe(self, place: Place, clause: str, detail: str) -> Fault:
        """Return the fault of something that must not be at a place."""
        return Fault("unsafe-path", clause, detail, None, self.path_of(place))


# ---- faults ----


@contextmanager
def faults_at(path: str) -> Iterator[None]:
    """Turn an error of the file system into the fault it stands for, with this path."""
    try:
        yield
    except OSError as error:
        # [SAFE-31] A close that fails behind a write that failed: both are reported.
        faults = [fault_of(error, path)]
        while isinstance(error.__context__, OSError):
            error = error.__context__
            faults.insert(0, fault_of(error, path))
        faults[0].also = tuple(faults[1:])
        raise faults[0] from error


def fault_of(error: OSError, path: str) -> Fault:
    """Return the fault that an error of the file system stands for."""
    detail = os.strerror(error.errno or 0)
    if error.errno in NO_SPACE:
        return Fault("disk-full", "SAFE-28", detail, None, path)
    if error.errno in IN_THE_WAY:
        return Fault("unsafe-path", IN_THE_WAY[error.errno], detail, None, path)
    return Fault("io-error", "SAFE-29", detail, None, path)


def check_kind(kind: str, belongs: str, path: str) -> None:
    """Refuse anything but what belongs at a path: a `FILE` or a `DIRECTORY`."""
    if kind != belongs:
        raise Fault("unsafe-path", CLAUSE_OF_KIND[kind], f"a {kind} where a {belongs} belongs", None, path)


def check_file(status: os.stat_result | None, path: str, *, is_blob: bool) -> None:
    """Refuse what may not be at the path of a file; None is nothing."""
    if status is None:
        return
    check_kind(kind_of(status), FILE, path)
    # [SAFE-14] [SAFE-18] A sidecar is written into its inode, and other names would
    # show that. [SAFE-15] A blob only takes its name.
    if not is_blob and status.st_nlink > 1:
        raise Fault("unsafe-path", "SAFE-14", "a hard link: the file has other names", None, path)


# ---- calls that follow no link ----


def open_directory(name: str, above: int | None, path: str) -> int:
    """Open a directory and return its handle; refuse what is anything else."""
    try:
        return os.open(name, OPEN_DIRECTORY, dir_fd=above)
    except OSError:
        # Only for the words of the refusal: the open itself has judged. [SAFE-6]
        check_kind(kind_of(os.stat(name, dir_fd=above, follow_symlinks=False)), DIRECTORY, path)
        raise


@contextmanager
def entered(top: int, place: Place) -> Iterator[int]:
    """Open a directory below `top`, step by step, for as long as the context lasts."""
    handle = os.dup(top)
    try:
        for name in place:
            inner = os.open(name, OPEN_DIRECTORY, dir_fd=handle)
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


def look(above: int, name: str) -> os.stat_result | None:
    """Return what is at a name, a link itself and not what it leads to; None for nothing."""
    try:
        return os.stat(name, dir_fd=above, follow_symlinks=False)
    except FileNotFoundError:
        return None


def iter_tree(top: int, out: str) -> Iterator[tuple[Place, str]]:
    """Yield everything below `top`, and its kind; `out` is its path, for a fault."""
    pending: list[Place] = [()]
    while pending:
        directory = pending.pop()
        with entered(top, directory) as handle:
            for name in os.listdir(handle):
                place = (*directory, name)
                # [INTO-1] No tool could open what is deeper or has a longer path.
                is_too_long = len(encoded(place)) > MAX_PATH_SIZE
                kind = kind_of(os.stat(name, dir_fd=handle, follow_symlinks=False))
                if is_too_long or (kind == DIRECTORY and len(place) > MAX_DEPTH):
                    detail = f"a path of more than {MAX_PATH_SIZE} bytes or {MAX_DEPTH} directories"
                    raise Fault("unsafe-path", "INTO-1", detail, None, os.path.join(out, *place))
                if kind == DIRECTORY:
                    pending.append(place)
                yield place, kind


def kind_of(status: os.stat_result) -> str:
    """Return the kind of a file, directory or link."""
    kinds = {stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK}
    return kinds.get(stat.S_IFMT(status.st_mode), SPECIAL)


def write_all(descriptor: int, content: bytes, check: Callable[[os.stat_result], None] | None = None) -> Inode:
    """Write a whole file, give it its mode and close it; return its inode.

    `check` judges the open file before it is emptied.
    """
    try:
        status = os.fstat(descriptor)
        if check is not None:
            check(status)
        # [TREE-7] An older file may have wider bits, and an odd umask may have taken some.
        os.fchmod(descriptor, FILE_MODE)
        os.ftruncate(descriptor, 0)
        # [SAFE-30] A write may take only some of the bytes.
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
        return inode_of(status)
    finally:
        os.close(descriptor)


def read_file(top: int, place: Place, limit: int = -1) -> bytes:
    """Read a file below `top`, up to `limit` bytes. Raises OSError for what is not a regular file."""
    with entered(top, place[:-1]) as above:
        descriptor = os.open(place[-1], OPEN | os.O_RDONLY, dir_fd=above)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        return file.read(limit)


def inode_of(status: os.stat_result) -> Inode:
    """Return what tells one file from every other."""
    return status.st_dev, status.st_ino


def encoded(place: Place) -> bytes:
    """Return a path as CHECKSUMS writes it. [SUMS-1]"""
    return os.fsencode("/".join(place))
