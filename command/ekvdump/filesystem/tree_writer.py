"""Writing the dump tree. Implements spec chapters TREE, SAFE and INTO.

    <out>/MANIFEST.json
    <out>/CHECKSUMS
    <out>/redis/db_<n>/strings/<segment>.bin
    <out>/redis/db_<n>/strings_ttl.jsonl
    <out>/redis/db_<n>/hll/<segment>.bin
    <out>/redis/db_<n>/hll_ttl.jsonl
    <out>/redis/db_<n>/hashes/<segment>.json
    <out>/redis/db_<n>/lists/<segment>.json
    <out>/redis/db_<n>/sets/<segment>.json
    <out>/redis/db_<n>/zsets/<segment>.json
    <out>/redis/db_<n>/streams/<segment>.jsonl
    <out>/redis/db_<n>/KEYMAP.jsonl
    <out>/redis/db_<n>/unreadable.jsonl
    <out>/redis/db_<n>/unreadable/<segment>.<kind>.bin

The rules this module lives by: every name is used relative to an open directory that was
itself opened without following a link [SAFE-6]; a file is checked by its handle after it
was opened, and not written to before; and a file gets its name only when it is whole.
"""

import ctypes
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from io import FileIO
from itertools import groupby
from typing import BinaryIO, Final, NamedTuple

from ekvformat.checksums import CHECKSUMS_NAME, render_checksum_line
from ekvformat.keymap import KEYMAP_NAME
from ekvformat.manifest import MANIFEST_NAME, MAX_MANIFEST_SIZE, check_size
from ekvformat.outcomes import Fault
from ekvformat.redis_ttls import HLL_TTL_NAME, STRINGS_TTL_NAME
from ekvformat.salvage import UNREADABLE_NAME
from ekvformat.tree import SUFFIXES

from ekvdump.engine.outputs import Blob, Document, Line
from ekvdump.filesystem.directories import (
    DIRECTORY,
    DIRECTORY_MODE,
    FILE,
    FILE_MODE,
    HAS_HANDLES,
    SYMLINK,
    WRITE_FILE,
    Directory,
    Inode,
    Parts,
    entered,
    inode_of,
    iter_tree,
    look_if_there,
    write_all,
)
from ekvdump.filesystem.external_sort import Sorter
from ekvdump.filesystem.reading import hash_file, open_top, opened
from ekvdump.system_faults import FaultsAt, check_directory, check_file, check_spelling, first_of

TEMPORARY_NAME: Final = ".ekvdump.tmp"
"""The name of a file until it is whole. [SAFE-21]"""
OWN_DIRECTORIES: Final = frozenset(SUFFIXES)
"""Directories of blobs in the directory of a database."""
SEAL_NAMES: Final = frozenset((MANIFEST_NAME, CHECKSUMS_NAME))
"""Files that a failed run never leaves. [SAFE-27]"""
MAX_STALE_EXAMPLES: Final = 16
"""Paths that the warning lists at most. [INTO-6]"""
DATABASE_NAME: Final = re.compile(r"db_(0|[1-9][0-9]*)")
"""The name of the directory of one database. [TREE-1]"""
OWN_SIDECARS: Final = frozenset((KEYMAP_NAME, STRINGS_TTL_NAME, HLL_TTL_NAME, UNREADABLE_NAME))
"""Sidecars in the directory of a database."""

FLUSHES_EACH_FILE: Final = not hasattr(os, "sync")
"""True if the platform has no call that flushes everything at once. [SAFE-22]"""
SIDECAR_BUFFER_SIZE: Final = 64 * 1024
BATCH_SIZE: Final = 64 * 1024
"""Bytes of CHECKSUMS that are written at once."""

THERE: Final = b""
"""Marks a file that was found in the output directory; the note of a file of this run is its hash."""


class Inventory(NamedTuple):
    """What the output directory contains besides the files of this run."""

    databases: list[int]
    """Indexes of the databases that contain a file, ascending. [MANI-10]"""
    stale_count: int
    stale_examples: tuple[bytes, ...]
    """Paths of stale files. [INTO-6]"""


class Sidecar:
    """An open sidecar: its file, the hash of its lines, and the inode that its name must refer to."""

    def __init__(self, descriptor: int) -> None:
        self.inode = inode_of(os.fstat(descriptor))
        self.sha256 = hashlib.sha256()
        self.file: BinaryIO = open(descriptor, "wb", buffering=SIDECAR_BUFFER_SIZE)

    def append(self, line: bytes) -> None:
        """Write one line."""
        self.sha256.update(line)
        self.file.write(line)


class TreeWriter:
    """The output directory of one run, whose outputs go below `own`.

    A run calls the methods in this order:

        check()      refuses an output directory that must not be written to; changes nothing
        unseal()     creates or opens it; removes the seal and the leftovers of earlier runs
        write(..)    writes one output, as often as there are outputs
        inventory()  closes the sidecars and lists what is in the output directory
        seal(..)     writes MANIFEST.json and then CHECKSUMS; the dump is whole
        rollback()   instead, at any moment: closes everything and leaves no seal

    Every method but `rollback` raises `unsafe-path`, `not-empty`, `disk-full` or `io-error`, with
    the path; the caller then calls `rollback`. `handles` selects the platform's safe calls
    [SAFE-7].
    """

    def __init__(
        self, out: str, own: Parts = (), *, into_existing: bool = False, sync: bool = True, handles: bool = HAS_HANDLES
    ) -> None:
        # A slash at the end would make the system follow a link at the last name. [SAFE-5]
        self._out = out.rstrip("/") or out[:1]
        self._own = own
        self._into_existing = into_existing
        self._handles = handles
        # [SAFE-22] One call flushes everything, just before CHECKSUMS appears, or else each file is flushed.
        self._flush_each = os.fsync if sync and FLUSHES_EACH_FILE else None
        self._flush_last = (self._flush_each or flush_file_system) if sync else None
        self._directories: dict[Parts, Directory] = {}
        """The directories that this run has opened, outer ones first."""
        self._plain_modes: set[Parts] = set()
        """Directories in which a new file has the mode of TREE-7 from the start."""
        self._sidecars: dict[Parts, Sidecar] = {}
        """The open sidecars by their places."""
        self._files = Sorter(self._open_unnamed)
        """The path of every file, with its hash if this run wrote it. [SUMS-3]"""
        self._blob_count = 0
        self._own_places: list[Parts] = []
        """Files to remove if the run fails."""
        self.earlier_manifest = b""
        """The MANIFEST.json of the earlier dump, empty if there was none. [INTO-7]"""
        self.is_touched = False
        """True if anything in the output directory was created or changed."""
        self.is_sealed = False
        """True if the dump is whole: the CHECKSUMS of this run has its name."""

    # ---- the output directory ----

    def check(self) -> None:
        """Check that the output directory may be written to; change nothing. [OUTC-6]"""
        check_spelling(self._out, "SAFE-29")
        with FaultsAt(self._out, ()):
            # [SAFE-3] The parent directory is the caller's; links on the path to it are followed. [SAFE-5]
            parent = os.path.dirname(self._out) or "."
            if not self._out or not os.path.isdir(parent):
                raise Fault("io-error", "SAFE-3", "the directory above the output directory is not there", None, parent)
            if not os.path.lexists(self._out):
                return
            top = self._open_top()
            try:
                self._check_contents(top)
            finally:
                top.close()

    def _open_top(self) -> Directory:
        # This check gives the message; opening checks again, in one step. [SAFE-6]
        status = os.lstat(self._out)
        if stat.S_ISREG(status.st_mode):
            detail = "a file lies where the output directory belongs: are the arguments in order?"
            raise Fault("unsafe-path", "SAFE-17", detail, None, self._out)
        check_directory(status, self._out)
        return open_top(self._out, handles=self._handles)

    def _check_contents(self, top: Directory) -> list[Parts]:
        """Check the contents of the output directory; return the places of temporary files of killed runs."""
        if not self._into_existing:
            # [SAFE-1]
            if next(top.iter_names(), None) is not None:
                raise Fault("not-empty", "SAFE-1", "the output directory is not empty", None, self._out)
            return []
        leftovers = [parts for parts in self._iter_files(top) if parts[-1] == TEMPORARY_NAME]
        for name in (CHECKSUMS_NAME, MANIFEST_NAME):
            if status := look_if_there(top, name):
                check_file(status, self._shown((name,)), is_blob=False)
        return leftovers

    def _iter_files(self, top: Directory) -> Iterator[Parts]:
        """Yield every regular file; raise `unsafe-path` for anything that must not be there. [INTO-1]"""
        own = self._own
        for parts, kind in iter_tree(top, self._out):
            if kind == FILE:
                if parts == own[: len(parts)] or (parts[:-1] == own and parts[-1] in OWN_DIRECTORIES):
                    detail = "a file lies where a directory belongs"
                    raise Fault("unsafe-path", "SAFE-17", detail, None, self._shown(parts))
                yield parts
            elif kind == DIRECTORY:
                if parts[-1] == TEMPORARY_NAME or (parts[:-1] == own and parts[-1] in OWN_SIDECARS):
                    detail = "a directory lies where a file belongs"
                    raise Fault("unsafe-path", "SAFE-16", detail, None, self._shown(parts))
            elif kind == SYMLINK:
                raise Fault(
                    "unsafe-path", "SAFE-11", "a symlink lies in the output directory", None, self._shown(parts)
                )
            else:
                detail = "a FIFO, socket or device lies in the output directory"
                raise Fault("unsafe-path", "SAFE-12", detail, None, self._shown(parts))

    def _iter_names(self, top: Directory) -> Iterator[Parts]:
        """Yield every regular file, whatever else lies there."""
        return (parts for parts, kind in iter_tree(top, self._out) if kind == FILE)

    def unseal(self) -> None:
        """Create or open the output directory for writing, and remove its seal and leftovers. [SAFE-2]

        Once, after `check` and before everything below.
        """
        with FaultsAt(self._out, ()):
            # Set before the directory is created: an interrupt may come at any moment.
            self.is_touched = True
            try:
                os.mkdir(self._out, DIRECTORY_MODE)
            except OSError as error:
                self.is_touched = False
                if not isinstance(error, FileExistsError):
                    raise
            top = self._open_top()
            try:
                leftovers = self._check_contents(top)
            except BaseException:
                top.close()
                raise
            self._directories[()] = top
            if self._into_existing and look_if_there(top, MANIFEST_NAME):
                with opened(top, (MANIFEST_NAME,)) as file:
                    self.earlier_manifest = file.read(MAX_MANIFEST_SIZE + 1)
            self.is_touched = True
            # [INTO-4] The seal first; then the leftovers. [INTO-3]
            seals = [(CHECKSUMS_NAME,), (MANIFEST_NAME,)] if self._into_existing else []
            self._own_places += reversed(seals)
            for parts in (*seals, *leftovers):
                with entered(top, parts[:-1]) as directory, suppress(FileNotFoundError):
                    directory.unlink(parts[-1])

    def _directory(self, parts: Parts) -> Directory:
        """Return an open directory below the output directory, created at its first use. [TREE-5] [SAFE-8]"""
        directory = self._directories.get(parts)
        if directory is None:
            above, name = self._directory(parts[:-1]), parts[-1]
            with FaultsAt(self._out, parts):
                # [TREE-8] An existing directory is opened and checked like a new one.
                with suppress(FileExistsError):
                    above.make(name)
                check_directory(above.look(name), self._shown(parts))
                try:
                    directory = self._directories[parts] = above.enter(name)
                except OSError:
                    # It was replaced since the check; the second check finds by what.
                    check_directory(above.look(name), self._shown(parts))
                    raise
        return directory

    # ---- outputs ----

    def write(self, output: Blob | Document | Line) -> None:
        """Write one output of the decoder."""
        if not isinstance(output, Line):
            if not self._write_unnamed(output.directory, output.name, output.iter_pieces):
                self._publish((*output.directory, output.name), output.iter_pieces())
            self._blob_count += 1
            return
        place = (*output.directory, output.sidecar)
        with FaultsAt(self._out, place):
            if place not in self._sidecars:
                descriptor = open_sidecar(self._directory(output.directory), output.sidecar, self._shown(place))
                self._sidecars[place] = Sidecar(descriptor)
            self._sidecars[place].append(output.line)

    def _publish(self, place: Parts, pieces: Iterable[bytes]) -> None:
        """Write a file under its temporary name and rename it. [SAFE-19] [SAFE-20]"""
        directory = self._directory(place[:-1])
        with FaultsAt(self._out, place):
            sha256, inode = self._write_temporary(directory, place, pieces, self._flush_each)
            self._name(directory, place, inode)
            self._files.add(path_of(place), sha256)

    def _write_unnamed(self, parts: Parts, name: str, iter_pieces: Callable[[], Iterable[bytes]]) -> bool:
        """Write a blob to a file without a name and then give it its name. [SAFE-19]

        Nothing can take the place of such a file before it is named [SAFE-10], and a run that is killed leaves
        nothing of it. Return False if that cannot be done here, or if something has the name already.
        """
        directory = self._directories.get(parts) or self._directory(parts)
        with FaultsAt(self._out, (*parts, name)):
            descriptor = directory.create_unnamed()
            if descriptor is None:
                return False
            try:
                # What the umask or the directory makes of a mode, it makes of all files there.
                if parts not in self._plain_modes:
                    status = os.fstat(descriptor)
                    correct_mode(descriptor, status)
                    if stat.S_IMODE(status.st_mode) == FILE_MODE:
                        self._plain_modes.add(parts)
                sha256 = hashlib.sha256()
                for piece in iter_pieces():
                    sha256.update(piece)
                    write_all(descriptor, piece)
                if self._flush_each:
                    self._flush_each(descriptor)
                directory.link(descriptor, name)
            except FileExistsError:
                return False
            finally:
                os.close(descriptor)
            self._files.add(path_of((*parts, name)), sha256.hexdigest().encode("ascii"))
        return True

    def _write_temporary(
        self, directory: Directory, place: Parts, pieces: Iterable[bytes], flush: Callable[[int], None] | None
    ) -> tuple[bytes, Inode]:
        """Write a file under its temporary name; return the SHA-256 of its contents, in hex, and its inode."""
        temporary = (*place[:-1], TEMPORARY_NAME)
        # Listed before it is created: an interrupt may come at any moment. [SAFE-24]
        self._own_places.append(temporary)
        try:
            descriptor = create_temporary(directory)
        except OSError:
            self._own_places.remove(temporary)
            raise
        sha256 = hashlib.sha256()
        try:
            status = os.fstat(descriptor)
            correct_mode(descriptor, status)
            for piece in pieces:
                sha256.update(piece)
                write_all(descriptor, piece)
            if flush:
                flush(descriptor)
        finally:
            os.close(descriptor)
        return sha256.hexdigest().encode("ascii"), inode_of(status)

    def _name(self, directory: Directory, place: Parts, inode: Inode) -> None:
        """Rename the temporary file to its name."""
        name = place[-1]
        # A rename never follows a link and never writes through one; this check implements SAFE-11 to
        # SAFE-18. A file that appears after it is replaced, but not written to.
        if found := look_if_there(directory, name):
            check_file(found, self._shown(place), is_blob=is_blob(place))
        if name in SEAL_NAMES:
            self._own_places.append(place)
        directory.rename(TEMPORARY_NAME, name)
        self._own_places.remove((*place[:-1], TEMPORARY_NAME))
        # [SAFE-10] Another process may have replaced the temporary file.
        if inode_of(directory.look(name)) != inode:
            detail = "something else lies here than the file that was written"
            raise Fault("unsafe-path", "SAFE-10", detail, None, self._shown(place))

    # ---- the end of a run ----

    def inventory(self) -> Inventory:
        """Close the sidecars after the last output, and return what the output directory contains."""
        top = self._directory(())
        faults = self._close_sidecars()
        if faults:
            raise first_of(faults)
        with FaultsAt(self._out, ()):
            for place, sidecar in self._sidecars.items():
                self._files.add(path_of(place), sidecar.sha256.hexdigest().encode("ascii"))
            # [SAFE-9] In a new dump only the number is compared: where there are fewer, one is missing.
            written = len(self._sidecars) + self._blob_count
            is_listed = self._into_existing or sum(1 for _ in self._iter_names(top)) < written
            for parts in (self._iter_files(top) if self._into_existing else self._iter_names(top)) if is_listed else ():
                self._files.add(path_of(parts), THERE)

        databases: set[int] = set()
        stale_count = 0
        stale_examples: list[bytes] = []
        for path, notes in self._iter_files_and_notes():
            parts = tuple(os.fsdecode(path).split("/"))
            if len(parts) > 2 and parts[0] == "redis" and (match := DATABASE_NAME.fullmatch(parts[1])):
                databases.add(int(match[1]))
            if notes == [THERE] and parts[: len(self._own)] == self._own:
                stale_count += 1  # [INTO-6]
                if len(stale_examples) < MAX_STALE_EXAMPLES:
                    stale_examples.append(path)
            elif is_listed and notes[0] != THERE:
                self._check_places()  # where a directory is another one, that is why
                detail = "a file that was written is not there under its name"
                raise Fault("unsafe-path", "SAFE-9", detail, None, os.path.join(self._out, os.fsdecode(path)))
        return Inventory(sorted(databases), stale_count, tuple(stale_examples))

    def _iter_files_and_notes(self) -> Iterator[tuple[bytes, list[bytes]]]:
        with FaultsAt(self._out, ()):
            for path, records in groupby(self._files, key=lambda record: record[0]):
                yield path, [note for _, note in records]

    def seal(self, manifest: bytes) -> None:
        """Write MANIFEST.json and then CHECKSUMS, after `inventory`. [SAFE-23]"""
        self._publish((MANIFEST_NAME,), (check_size(manifest, os.path.join(self._out, MANIFEST_NAME)),))
        top = self._directory(())
        with FaultsAt(self._out, (CHECKSUMS_NAME,)):
            lines = self._iter_checksum_lines(top)
            _, inode = self._write_temporary(top, (CHECKSUMS_NAME,), lines, self._flush_last)
            self._check_places()
            self._name(top, (CHECKSUMS_NAME,), inode)
        self.is_sealed = True
        self._close_handles()

    def _iter_checksum_lines(self, top: Directory) -> Iterator[bytes]:
        """Yield the lines, many at a time."""
        batch = bytearray()
        for path, notes in self._iter_files_and_notes():
            batch += render_checksum_line(path, notes[-1] or self._hash_other(top, path))
            if len(batch) >= BATCH_SIZE:
                yield bytes(batch)
                batch.clear()
        yield bytes(batch)

    def _hash_other(self, top: Directory, path: bytes) -> bytes:
        """Return the SHA-256, in hex, of a file that this run did not write. [INTO-5]"""
        parts = tuple(os.fsdecode(path).split("/"))
        with FaultsAt(self._out, parts):
            return hash_file(top, parts)

    def rollback(self) -> list[Fault]:
        """Close everything and remove what a failed run must not leave. [SAFE-27] [SAFE-24]

        A dump that is sealed stays. Returns the faults met on the way. [SAFE-31]
        """
        faults = self._close_sidecars()
        # The newest file first, so that CHECKSUMS is removed before MANIFEST.json.
        for place in () if self.is_sealed else reversed(self._own_places):
            try:
                with FaultsAt(self._out, place), suppress(FileNotFoundError):
                    self._directories[place[:-1]].unlink(place[-1])
            except Fault as fault:
                faults.append(fault)
        self._close_handles()
        return faults

    def _close_sidecars(self) -> list[Fault]:
        """Flush and close every sidecar; return every fault, not only the first. [SAFE-31]"""
        faults: list[Fault] = []
        for place, sidecar in self._sidecars.items():
            try:
                with FaultsAt(self._out, place):
                    if self._flush_each and not sidecar.file.closed:
                        sidecar.file.flush()
                        self._flush_each(sidecar.file.fileno())
                    sidecar.file.close()
            except Fault as fault:
                faults.append(fault)
        return faults

    def _check_places(self) -> None:
        """Check that the name of every directory and sidecar still refers to it. [SAFE-8]"""
        for parts, directory in self._directories.items():
            self._check_place(parts, directory.inode)
        for place, sidecar in self._sidecars.items():
            self._check_place(place, sidecar.inode)

    def _check_place(self, place: Parts, inode: Inode) -> None:
        with FaultsAt(self._out, place):
            status = self._directories[place[:-1]].look(place[-1]) if place else os.lstat(self._out)
        if inode_of(status) != inode:
            detail = "something else lies here than what was written to"
            raise Fault("unsafe-path", "SAFE-8", detail, None, self._shown(place))

    def _close_handles(self) -> None:
        self._files.close()
        while self._directories:
            self._directories.popitem()[1].close()
        self._sidecars.clear()

    def _open_unnamed(self) -> FileIO:
        """Create an unlinked temporary file on the file system of the dump. [SUMS-6]"""
        top = self._directory(())
        with FaultsAt(self._out, (TEMPORARY_NAME,)):
            self._own_places.append((TEMPORARY_NAME,))
            file = FileIO(create_temporary(top), "r+")
            try:
                top.unlink(TEMPORARY_NAME)
            except BaseException:
                file.close()
                raise
            self._own_places.remove((TEMPORARY_NAME,))
        return file

    def _shown(self, place: Parts) -> str:
        return os.path.join(self._out, *place)


def is_blob(place: Parts) -> bool:
    """Return True for the place of a blob."""
    return len(place) > 1 and place[-1].endswith(SUFFIXES.get(place[-2], "/"))


# ---- single calls ----


def open_sidecar(directory: Directory, name: str, shown: str) -> int:
    """Open a sidecar for writing, new or emptied, and return its descriptor.

    Raises `unsafe-path` or `OSError`.
    """
    with suppress(FileExistsError):
        descriptor = directory.create(name)
        correct_mode(descriptor, os.fstat(descriptor))
        return descriptor
    # [SAFE-13] Opening a device can have effects, so it is checked first. The check by handle below decides. [SAFE-6]
    check_file(directory.look(name), shown, is_blob=False)
    descriptor = directory.open(name, WRITE_FILE)
    try:
        check_file(os.fstat(descriptor), shown, is_blob=False)
        correct_mode(descriptor, os.fstat(descriptor))
        os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def correct_mode(descriptor: int, status: os.stat_result) -> None:
    """Set the mode of an open file, if an older file or the umask gave it another. [TREE-7]"""
    if stat.S_IMODE(status.st_mode) != FILE_MODE and hasattr(os, "fchmod"):
        os.fchmod(descriptor, FILE_MODE)


def create_temporary(directory: Directory) -> int:
    """Create the temporary file of a directory and return its descriptor. [SAFE-21]"""
    with suppress(FileExistsError):
        return directory.create(TEMPORARY_NAME)
    # The name is reserved for this program; unlinking touches neither a link's target nor a FIFO's reader.
    directory.unlink(TEMPORARY_NAME)
    return directory.create(TEMPORARY_NAME)


def flush_file_system(descriptor: int) -> None:
    """Flush the whole file system of an open file to disk. [SAFE-22]"""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()  # a system without syncfs; sync reports no errors
    elif syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def path_of(place: Parts) -> bytes:
    """Return a path as CHECKSUMS writes it. [SUMS-1]"""
    return os.fsencode("/".join(place))
