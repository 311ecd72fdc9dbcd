"""Comparing a dump with what its own files say. Implements spec chapter VERI.

    files             are compared with
    ----------------  ---------------------------------------------------------
    every file        its line in CHECKSUMS, and every line with its file
    MANIFEST.json     the rules of MANI, and the databases in the dump
    every sidecar     the blobs of its database, and some blobs with their rows

The rules this module lives by: nothing is written in the dump and no link in it is followed
[VERI-21]; paths, lines and segments are sorted in unlinked temporary files, so that memory
does not grow with the dump [VERI-20].
"""

import os
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, Final

from ekvformat.checksums import CHECKSUMS_NAME, render_checksum_line
from ekvformat.keymap import KEYMAP_NAME, SHA_FALLBACK
from ekvformat.manifest import MANIFEST_NAME, MAX_MANIFEST_SIZE, is_number
from ekvformat.outcomes import Fault
from ekvformat.redis_ttls import HLL_TTL_NAME, STRINGS_TTL_NAME
from ekvformat.salvage import KINDS, UNREADABLE_DIRECTORY, UNREADABLE_NAME
from ekvformat.segments import encode_segment
from ekvformat.tree import HASHES, HLLS, LISTS, SETS, STREAMS, STRINGS, SUFFIXES, ZSETS

from ekvdump.engine.source import Progress
from ekvdump.filesystem.directories import (
    DIRECTORY,
    FILE,
    HAS_HANDLES,
    SYMLINK,
    Parts,
    entered,
    iter_tree,
    look_if_there,
)
from ekvdump.filesystem.external_sort import TemporarySorter
from ekvdump.filesystem.reading import Hasher, open_top, opened
from ekvdump.filesystem.tree_writer import DATABASE_NAME, is_blob
from ekvdump.system_faults import FaultsAt, check_directory, check_spelling, temporary_fault
from ekvdump.verify.checksums import MAX_LINE_SIZE as MAX_CHECKSUM_LINE_SIZE
from ekvdump.verify.checksums import decode_checksum_line
from ekvdump.verify.findings import Finding
from ekvdump.verify.keymap import MAX_LINE_SIZE, KeymapLine, iter_keymap
from ekvdump.verify.lines import iter_bounded_lines
from ekvdump.verify.manifest import decode_manifest, says_complete
from ekvdump.verify.rows import decode_expiry_row, decode_unreadable_line
from ekvdump.verify.segments import decode_segment, needs_keymap

VERIFYING: Final = "files"
"""The stage of a run that hashes files."""

# Notes in the sorter of paths.
A_FILE: Final = b"F"
NO_FILE: Final = b"X"
"""A link or a special file, which has been reported already."""
REDIS_NAME: Final = "redis"
"""The directory that holds the databases. [TREE-1]"""
A_LINE: Final = b"L"
"""A line of CHECKSUMS; followed by its hash."""

# Notes in the sorter of names, whose keys are `redis/db_<n>/<segment>` or `redis/db_<n>/unreadable/<segment>.<kind>`.
STRING_BLOB: Final = b"s"
HLL_BLOB: Final = b"h"
STRING_ROW: Final = b"S"
HLL_ROW: Final = b"H"
KEYMAP_LINE: Final = b"K"
UNREADABLE_BLOB: Final = b"u"
UNREADABLE_ROW: Final = b"U"

BLOB_NOTES: Final = {
    STRINGS: STRING_BLOB, HLLS: HLL_BLOB, HASHES: b"1", LISTS: b"2", SETS: b"3", ZSETS: b"4", STREAMS: b"5",
}  # fmt: skip
"""Directory of blobs = their note."""
ROW_NOTES: Final = {STRINGS_TTL_NAME: STRING_ROW, HLL_TTL_NAME: HLL_ROW, UNREADABLE_NAME: UNREADABLE_ROW}
BLOB_OF_ROW: Final = {STRING_ROW: STRING_BLOB, HLL_ROW: HLL_BLOB, UNREADABLE_ROW: UNREADABLE_BLOB}
SIDECAR_OF_ROW: Final = {note: name for name, note in ROW_NOTES.items()}

Report = Callable[[Finding], None]


class Verification:
    """One verification of a dump. `run` calls `report` with every finding.

    Raises `unsafe-path` or `io-error` if the dump cannot be read.
    """

    def __init__(
        self, out: str, report: Report, progress: Progress | None = None, *, handles: bool = HAS_HANDLES
    ) -> None:
        self._out = out.rstrip("/") or out[:1]
        self._report_to = report
        self._progress = progress
        self._handles = handles
        self._paths = TemporarySorter()
        self._names = TemporarySorter()
        self._sidecars: list[Parts] = []
        self._databases: set[int] = set()
        self._top_files: set[str] = set()
        self.counts: Counter[str] = Counter()
        """Number of findings by name. [VERI-19]"""
        self.file_count = 0
        """Regular files in the tree."""
        self.is_dump = True
        """False for a directory that is not a dump. [VERI-24]"""
        self.manifest: dict[str, Any] | None = None
        """The members of MANIFEST.json, if it can be read."""

    @property
    def says_complete(self) -> bool | None:
        """True if MANIFEST.json says that all databases are complete; None if it does not say."""
        return says_complete(self.manifest or {})

    def run(self) -> None:
        """Verify the dump."""
        check_spelling(self._out, "SAFE-29")
        with self._reading(()):
            if not os.path.lexists(self._out):
                raise Fault("io-error", "VERI-1", "there is no such directory", None, self._out)
            check_directory(os.lstat(self._out), self._out)
        try:
            tempfile.gettempdir()
        except OSError as error:
            raise temporary_fault(error, "VERI-20") from error
        with self._reading(()):
            self._top = open_top(self._out, handles=self._handles)
        self._hasher = Hasher(self._top)
        try:
            if not self._is_dump():
                # [VERI-24]
                self._read_manifest()
                self._read_checksums()
                return
            self._walk()
            self._read_manifest()
            self._read_checksums()
            for parts in self._sidecars:
                self._read_sidecar(parts)
            self._compare_files()
            self._compare_names()
        finally:
            self._hasher.close()
            self._top.close()
            self._paths.close()
            self._names.close()

    def _is_dump(self) -> bool:
        """Return True for a dump, also one that was not finished. [VERI-24]"""
        with self._reading(()):
            self.is_dump = any(look_if_there(self._top, name) for name in (MANIFEST_NAME, CHECKSUMS_NAME, REDIS_NAME))
        return self.is_dump

    def _reading(self, parts: Parts) -> FaultsAt:
        """Return the context for reading what lies at a place of the dump. [VERI-22]"""
        return FaultsAt(self._out, parts, "VERI-22")

    # [VERI-2] The path of a finding is relative to the dump.

    def _report(self, name: str, clause: str, detail: str, path: bytes | str, offset: int | None = None) -> None:
        self._pass_on(Finding(name, clause, detail, offset, os.fsdecode(path)))

    def _pass_on(self, finding: Finding) -> None:
        self.counts[finding.name] += 1
        self._report_to(finding)

    # ---- files ----

    def _walk(self) -> None:
        for parts, kind in iter_tree(self._top, self._out, "VERI-22"):
            path = os.fsencode("/".join(parts))
            if kind == FILE:
                self.file_count += 1
                self._paths.add(path, A_FILE)
                self._note_file(parts, path)
            elif kind == SYMLINK:
                self._paths.add(path, NO_FILE)
                self._report("symlink", "VERI-6", "a symlink; it was not followed", path)
            elif kind != DIRECTORY:
                self._paths.add(path, NO_FILE)
                self._report("not-regular", "VERI-6", "a FIFO, socket or device; it was not opened", path)

    def _note_file(self, parts: Parts, path: bytes) -> None:
        if len(parts) == 1:
            self._top_files.add(parts[0])
        if len(parts) < 3 or parts[0] != "redis" or not (match := DATABASE_NAME.fullmatch(parts[1])):
            return
        self._databases.add(int(match[1]))
        directory, name = parts[2], parts[-1]
        if len(parts) == 3 and (name in ROW_NOTES or name == KEYMAP_NAME):
            self._sidecars.append(parts)
        elif is_blob(parts):
            stem = name.removesuffix(SUFFIXES[directory])
            if directory in BLOB_NOTES:
                self._report_segment(stem, path)
                self._names.add(name_of(parts[1], stem), BLOB_NOTES[directory])
            elif directory == UNREADABLE_DIRECTORY:
                segment, _, kind = stem.rpartition(".")
                if kind in KINDS:
                    self._report_segment(segment, path)
                else:
                    self._report("invalid-segment", "SALV-7", f"the name does not end in one of {KINDS}", path)
                self._names.add(name_of(parts[1], UNREADABLE_DIRECTORY, stem), UNREADABLE_BLOB)

    def _report_segment(self, segment: str, path: bytes) -> None:
        try:
            key = decode_segment(segment)
        except Finding as finding:
            if finding.name != "needs-keymap":  # `_compare_names` checks that it has a line [VERI-11]
                self._report(finding.name, finding.clause, finding.detail, path)
            return
        if encode_segment(key) != segment:
            self._report("unusual-segment", "VERI-10", f"this key's segment is {encode_segment(key)}", path)

    # ---- MANIFEST.json ----

    def _read_manifest(self) -> None:
        if MANIFEST_NAME not in self._top_files:
            self._report("no-manifest", "VERI-4", "the dump has no MANIFEST.json", MANIFEST_NAME)
            return
        with self._reading((MANIFEST_NAME,)), opened(self._top, (MANIFEST_NAME,)) as file:
            text = file.read(MAX_MANIFEST_SIZE + 1)
        try:
            self.manifest = decode_manifest(text, MANIFEST_NAME)
        except Finding as finding:
            self._pass_on(finding)
            return
        redis = self.manifest["adapters"].get("redis")
        named = redis.get("databases") if isinstance(redis, dict) else None
        # [VERI-18] Other decoders may leave them out.
        if named is not None and not (named == sorted(self._databases) and all(map(is_number, named))):
            detail = f"`databases` says {named!r:.80}, the directories say {sorted(self._databases)!r:.80}"
            self._report("wrong-databases", "VERI-18", detail, MANIFEST_NAME)

    # ---- CHECKSUMS ----

    def _read_checksums(self) -> None:
        if CHECKSUMS_NAME not in self._top_files:
            self._report("no-seal", "VERI-3", "the dump has no CHECKSUMS, so it is not whole", CHECKSUMS_NAME)
            return
        previous, offset = b"", -1
        for offset, text in self._iter_lines((CHECKSUMS_NAME,), MAX_CHECKSUM_LINE_SIZE + 1):
            try:
                line = decode_checksum_line(text, offset, CHECKSUMS_NAME)
            except Finding as finding:
                self._pass_on(finding)
                continue
            # [READ-28] Empty parts and `.` are removed, as the system does when it opens a path.
            path = b"/".join(part for part in line.path.split(b"/") if part not in (b"", b"."))
            # [VERI-7]
            if render_checksum_line(path, line.sha256) != text:
                detail = "the line would have been written otherwise"
                self._report("unusual-line", "VERI-7", detail, CHECKSUMS_NAME, offset)
            path = path or b"."
            # [VERI-8]
            if path < previous:
                detail = "the path comes before the path of the line before"
                self._report("unsorted-line", "VERI-8", detail, CHECKSUMS_NAME, offset)
            previous = path
            self._paths.add(path, A_LINE + line.sha256)
        # [READ-29]
        if offset < 0:
            self._report("no-line", "READ-29", "there is no line", CHECKSUMS_NAME)

    def _compare_files(self) -> None:
        """Compare every file with its line, in the order of paths."""
        done = 0
        for path, records in groupby(self._paths, key=lambda record: record[0]):
            is_file, is_seen, differs, line_count, found = False, False, False, 0, b""
            # In the order of notes: the file, its lines, and anything that is not a file.
            for _, note in records:
                if note == A_FILE:
                    is_file = True
                elif note == NO_FILE:
                    is_seen = True
                else:
                    line_count += 1
                    if is_file:
                        found = found or self._hash(tuple(os.fsdecode(path).split("/")))
                        differs |= note[len(A_LINE) :] != found
            if is_file:
                done += 1
                if self._progress:
                    self._progress(VERIFYING, done, self.file_count)
            # [VERI-9]
            for _ in range(line_count - 1):
                self._report("repeated-path", "VERI-9", "the path has more than one line", path)
            if differs:
                # [READ-33]
                self._report("mismatch", "READ-33", f"the file has the SHA-256 {found.decode()}", path)
            elif not is_file and not is_seen:
                self._report_missing(path)
            elif is_file and not line_count and path != CHECKSUMS_NAME.encode() and CHECKSUMS_NAME in self._top_files:
                self._report("foreign-file", "VERI-5", "the file has no line in CHECKSUMS", path)

    def _report_missing(self, path: bytes) -> None:
        """Report why a path that has a line is not a file of the dump."""
        parts = tuple(os.fsdecode(path).split("/"))
        for size in range(1, len(parts) + 1):
            try:
                with entered(self._top, parts[: size - 1]) as directory:
                    status = look_if_there(directory, parts[size - 1])
            except OSError:
                status = None
            if status and stat.S_ISLNK(status.st_mode):
                self._report("symlink", "READ-30", "a symlink on the path of this line; it was not followed", path)
                return
            is_special = status and not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode))
            if is_special or (status and size == len(parts)):
                self._report(
                    "not-regular", "READ-32", "not a regular file, or behind something that is not a directory", path
                )
                return
        self._report("missing-file", "READ-31", "the file is not there", path)

    def _hash(self, parts: Parts) -> bytes:
        with self._reading(parts):
            return self._hasher.hash(parts)

    # Errors of reading are faults of the dump. What a caller does with a line is outside: an error of printing
    # a finding is not one of the dump.

    def _iter_lines(self, parts: Parts, limit: int) -> Iterator[tuple[int, bytes]]:
        with self._reading(parts), opened(self._top, parts) as file:
            yield from iter_bounded_lines(file, limit)

    def _iter_keymap(self, parts: Parts) -> Iterator[KeymapLine]:
        with self._reading(parts), opened(self._top, parts) as file:
            yield from iter_keymap(file, "/".join(parts))

    # ---- sidecars ----

    def _read_sidecar(self, parts: Parts) -> None:
        if parts[2] == KEYMAP_NAME:
            self._read_keymap(parts)
            return
        decode = decode_unreadable_line if parts[2] == UNREADABLE_NAME else decode_expiry_row
        for offset, text in self._iter_lines(parts, MAX_LINE_SIZE):
            names = decode(text) if len(text) <= MAX_LINE_SIZE else None
            if names is None:
                self._report("invalid-row", "VERI-14", "not a row of this sidecar", "/".join(parts), offset)
            else:
                self._names.add(name_of(parts[1], *names), ROW_NOTES[parts[2]])

    def _read_keymap(self, parts: Parts) -> None:
        try:
            for line in self._iter_keymap(parts):
                if line.kind != SHA_FALLBACK:
                    continue
                # [VERI-12]
                if encode_segment(line.original) != line.encoded:
                    detail = f"the key of this line has the segment {encode_segment(line.original)}"
                    self._report("keymap-mismatch", "VERI-12", detail, "/".join(parts))
                else:
                    self._names.add(name_of(parts[1], line.encoded), KEYMAP_LINE)
        except Finding as finding:
            self._pass_on(finding)  # [READ-10]

    def _compare_names(self) -> None:
        """Compare rows and lines with blobs, in the order of databases and segments."""
        for name, records in groupby(self._names, key=lambda record: record[0]):
            notes = Counter(note for _, note in records)
            base, _, stem = os.fsdecode(name).rpartition("/")
            for row, sidecar in SIDECAR_OF_ROW.items():
                where = f"{base.removesuffix('/' + UNREADABLE_DIRECTORY)}/{sidecar}"
                # [VERI-16]
                for _ in range(notes[row] - 1):
                    self._report("repeated-row", "VERI-16", f"{stem} has more than one row", where)
                # [VERI-15]
                if notes[row] and not notes[BLOB_OF_ROW[row]]:
                    self._report("row-without-blob", "VERI-15", f"{stem} has a row and no blob", where)
            # [VERI-17]
            if notes[UNREADABLE_BLOB] and not notes[UNREADABLE_ROW]:
                self._report(
                    "blob-without-row",
                    "VERI-17",
                    "the file has no line",
                    f"{base}/{stem}{SUFFIXES[UNREADABLE_DIRECTORY]}",
                )
            blobs = [directory for directory, note in BLOB_NOTES.items() if notes[note]]
            # [VERI-11]
            if blobs and needs_keymap(stem) and not notes[KEYMAP_LINE]:
                detail = "a fallback name without a line in KEYMAP.jsonl: its key is lost"
                self._report("needs-keymap", "VERI-11", detail, f"{base}/{blobs[0]}/{stem}{SUFFIXES[blobs[0]]}")
            # [VERI-13]
            if notes[KEYMAP_LINE] and not blobs:
                self._report("line-without-blob", "VERI-13", f"{stem} has a line and no blob", f"{base}/{KEYMAP_NAME}")


def name_of(database: str, *names: str) -> bytes:
    """Return the sort key that blobs, rows and lines of one name share."""
    return os.fsencode("/".join(("redis", database, *names)))
