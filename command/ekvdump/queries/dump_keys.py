"""The keys of a dump, read without following a symlink.

The names, sidecars and KEYMAP of a database are sorted together in parts, first by segment,
to find what belongs together, and then in canonical order, so that memory does not grow
with the number of keys.
"""

import os
import re
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from itertools import groupby
from typing import Any, Final, Self

from ekvformat.checksums import CHECKSUMS_NAME
from ekvformat.decode import COLLECTION_SECTIONS, HLL_SECTION, STRING_SECTION
from ekvformat.keymap import KEYMAP_NAME, SHA_FALLBACK
from ekvformat.manifest import MANIFEST_NAME, MAX_MANIFEST_SIZE
from ekvformat.segments import encode_segment
from ekvformat.tree import SUFFIXES

from ekvdump.engine.source import Progress
from ekvdump.filesystem.directories import FILE, HAS_HANDLES, Directory, Parts, entered, look_if_there
from ekvdump.filesystem.external_sort import TemporarySorter
from ekvdump.filesystem.reading import hash_file, open_top, opened
from ekvdump.filesystem.tree_writer import DATABASE_NAME
from ekvdump.queries.documents import iter_blob_elements, read_end
from ekvdump.queries.keys import HLL, PIECE_SIZE, STRING, TYPES, Element, Key, Omission, Selection
from ekvdump.system_faults import FaultsAt, check_directory
from ekvdump.verify.checksums import MAX_LINE_SIZE as MAX_CHECKSUM_SIZE
from ekvdump.verify.checksums import decode_checksum_line
from ekvdump.verify.findings import Finding
from ekvdump.verify.keymap import MAX_LINE_SIZE, iter_keymap
from ekvdump.verify.lines import iter_bounded_lines
from ekvdump.verify.manifest import decode_manifest, says_complete, says_part
from ekvdump.verify.rows import decode_expiry
from ekvdump.verify.segments import decode_segment, needs_keymap
from ekvdump.verify.verification import Verification

SECTIONS: Final = {STRING: STRING_SECTION, HLL: HLL_SECTION}
"""Type = its directory and sidecar, if it has one."""
DIRECTORY_OF: Final = {
    STRING: STRING_SECTION.directory, HLL: HLL_SECTION.directory,
    **{type_: section.directory for type_, section in COLLECTION_SECTIONS.items()},
}  # fmt: skip
"""Type = the directory of its blobs."""
BLOB: Final = b"b"
EXPIRY: Final = b"e"
ORIGINAL: Final = b"o"
"""Notes in the sorter of segments: blob and size, expiry, line of KEYMAP and user key."""
ESCAPED: Final = re.compile(rb"\x01[\x01\x02]|\xff\x01")
BYTE_OF_ESCAPE: Final = {b"\1\1": b"\0", b"\1\2": b"\1", b"\xff\1": b"\xff"}


class DumpKeys:
    """The keys of one database of a dump. `KeySource`.

    `database` is its index; None for the only one there is. With `verify` the whole dump is verified
    first, and the first finding is raised.
    """

    def __init__(
        self, out: str, database: int | None = None, progress: Progress | None = None, *, verify: bool = True
    ) -> None:
        self.out = out
        if verify:
            _verify(out, progress)
        with FaultsAt(out, (), "VERI-22"):
            check_directory(os.lstat(out), out)
            self._top = open_top(out, handles=HAS_HANDLES)
        try:
            self._check_is_dump()
            self.databases = self._list_databases()
            self.database = self._choose(database)
        except BaseException:
            self._top.close()
            raise
        self._directory: Parts = ("redis", f"db_{self.database}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._top.close()

    def _check_is_dump(self) -> None:
        """Raise `no-manifest` for a directory that is not a dump. [VERI-24]"""
        if not any(self._is_there((name,)) for name in (MANIFEST_NAME, CHECKSUMS_NAME, "redis")):
            detail = "this is not a dump: it has no MANIFEST.json, CHECKSUMS or redis"
            raise Finding("no-manifest", "VERI-24", detail, None, self.out)

    def _list_databases(self) -> list[int]:
        with FaultsAt(self.out, ("redis",), "VERI-22"):
            if look_if_there(self._top, "redis") is None:
                return []
            with entered(self._top, ("redis",)) as directory:
                matches = (DATABASE_NAME.fullmatch(name) for name, _ in directory.iter_names())
                return sorted(int(match[1]) for match in matches if match)

    def _choose(self, database: int | None) -> int:
        listed = ", ".join(map(str, self.databases))
        if database is None:
            if len(self.databases) > 1:
                raise DatabaseError(f"the dump holds several databases ({listed}): name one with --db")
            return self.databases[0] if self.databases else 0
        if self.databases and database not in self.databases:
            raise DatabaseError(f"the dump holds no database {database}, but {listed}")
        return database

    # ---- keys ----

    def iter_keys(self, selection: Selection) -> Iterator[Key]:
        """Yield the keys that are wanted, in canonical order."""
        with closing(TemporarySorter()) as by_key:
            with closing(TemporarySorter()) as by_segment:
                self._collect(by_segment, selection)
                for segment, notes in _groups(by_segment):
                    self._add_keys(by_key, segment, notes, selection)
            for order, note in by_key:
                number, size, expiry, segment_of = note.split(b" ")
                user_key, type_, segment_name = _decode_order(order), TYPES[int(number)], segment_of.decode()
                expiry_ms = int(expiry) if expiry else None
                yield self._key(user_key, type_, segment_name, int(size), expiry_ms)

    def _key(self, user_key: bytes, type_: str, segment: str, size: int, expiry_ms: int | None) -> Key:
        place = self._blob(type_, segment)
        iter_pieces = partial(self._iter_pieces, place)
        if type_ in SECTIONS:
            return Key(user_key, type_, size, expiry_ms, iter_pieces)
        with self._reading(place), opened(self._top, place) as file:
            end = read_end(file, size, "/".join(place))
        iter_elements = partial(self._iter_elements, place, type_)
        return Key(user_key, type_, size, end.expiry_ms, iter_pieces, iter_elements, end.last_id)

    def _collect(self, by_segment: TemporarySorter, selection: Selection) -> None:
        for type_ in sorted(selection.types):
            number = b"%d" % TYPES.index(type_)
            for segment, size in self._iter_blobs(DIRECTORY_OF[type_]):
                by_segment.add(os.fsencode(segment), BLOB + b"%s %d" % (number, size))
            if type_ in SECTIONS:
                for segment, expiry_ms in self._iter_expiries(SECTIONS[type_].sidecar):
                    by_segment.add(os.fsencode(segment), EXPIRY + b"%s %d" % (number, expiry_ms))
        place = (*self._directory, KEYMAP_NAME)
        if self._is_there(place):
            with self._reading(place), opened(self._top, place) as file:
                for line_number, line in enumerate(iter_keymap(file, "/".join(place))):
                    # [VERI-12] Another line says nothing about a blob.
                    if line.kind == SHA_FALLBACK and line.encoded == encode_segment(line.original):
                        # [READ-11] The last line of a segment counts: notes are sorted.
                        note = ORIGINAL + b"%020d %s" % (line_number, line.original.hex().encode())
                        by_segment.add(os.fsencode(line.encoded), note)

    def _add_keys(self, by_key: TemporarySorter, segment: str, notes: list[bytes], selection: Selection) -> None:
        sizes: dict[bytes, bytes] = {}
        expiries: dict[bytes, bytes] = {}
        original: bytes | None = None
        for note in notes:
            kind, (number, value) = note[:1], note[1:].split(b" ")
            if kind == BLOB:
                sizes[number] = value
            elif kind == EXPIRY:
                expiries[number] = value
            else:
                original = bytes.fromhex(value.decode())
        if not sizes:
            return
        user_key = decode_segment(segment) if original is None or not needs_keymap(segment) else original
        if selection.wants(user_key):
            for number, size in sizes.items():
                note = b" ".join((number, size, expiries.get(number, b""), os.fsencode(segment)))
                by_key.add(_encode_order(user_key), note)

    def find(self, user_key: bytes, type_: str | None) -> Key | None:
        """Return the key of this name, of this type or of the first that it has; None if there is none."""
        segment = encode_segment(user_key)
        for each in TYPES if type_ is None else (type_,):
            place = self._blob(each, segment)
            if self._is_there(place):
                with self._reading(place), entered(self._top, place[:-1]) as directory:
                    size = directory.look(place[-1]).st_size
                rows = self._iter_expiries(SECTIONS[each].sidecar) if each in SECTIONS else ()
                expiries = [expiry for name, expiry in rows if name == segment]
                return self._key(user_key, each, segment, size, expiries[-1] if expiries else None)
        return None

    def check(self, user_key: bytes) -> None:
        """Compare the files that say something about one user key with their lines in CHECKSUMS. Raises a `Finding`."""
        if not self._is_there((CHECKSUMS_NAME,)):
            raise Finding("no-seal", "VERI-3", "there is no CHECKSUMS: the dump is not whole", None, CHECKSUMS_NAME)
        segment = encode_segment(user_key)
        places = [self._blob(type_, segment) for type_ in TYPES]
        places += [(*self._directory, section.sidecar) for section in SECTIONS.values()]
        stated: dict[bytes, bytes] = {}
        wanted = {"/".join(place).encode(): place for place in places}
        with self._reading((CHECKSUMS_NAME,)), opened(self._top, (CHECKSUMS_NAME,)) as file:
            for offset, text in iter_bounded_lines(file, MAX_CHECKSUM_SIZE):
                line = decode_checksum_line(text, offset)
                if line.path in wanted:
                    stated[line.path] = line.sha256
        for path, place in wanted.items():
            self._compare(path.decode(), place, stated.get(path))

    def _compare(self, path: str, place: Parts, stated: bytes | None) -> None:
        """Compare one file, which may be missing, with what CHECKSUMS says of it."""
        is_there = self._is_there(place)
        if is_there and stated is None:
            raise Finding("foreign-file", "VERI-5", "the file has no line in CHECKSUMS", None, path)
        if stated is None:
            return
        if not is_there:
            raise Finding("missing-file", "READ-31", "the file is not there", None, path)
        with self._reading(place):
            found = hash_file(self._top, place)
        if found != stated:
            detail = f"the file has the SHA-256 {found.decode()}, and CHECKSUMS says {stated.decode()}"
            raise Finding("mismatch", "READ-33", detail, None, path)

    # ---- files ----

    def _blob(self, type_: str, segment: str) -> Parts:
        directory = DIRECTORY_OF[type_]
        return (*self._directory, directory, f"{segment}{SUFFIXES[directory]}")

    def _reading(self, parts: Parts) -> FaultsAt:
        return FaultsAt(self.out, parts, "VERI-22")

    def _is_there(self, place: Parts) -> bool:
        """Return True if something lies at a place whose directories may be missing too."""
        with self._reading(place):
            try:
                with entered(self._top, place[:-1]) as directory:
                    return look_if_there(directory, place[-1]) is not None
            except FileNotFoundError:
                return False

    def _iter_blobs(self, name: str) -> Iterator[tuple[str, int]]:
        place = (*self._directory, name)
        if not self._is_there(place):
            return
        suffix = SUFFIXES[name]
        with self._reading(place), entered(self._top, place) as directory:
            for file_name, kind in directory.iter_names():
                if kind == FILE and file_name.endswith(suffix):
                    yield file_name.removesuffix(suffix), _size_of(directory, file_name)

    def _iter_expiries(self, name: str) -> Iterator[tuple[str, int]]:
        place = (*self._directory, name)
        if not self._is_there(place):
            return
        with self._reading(place), opened(self._top, place) as file:
            for offset, text in iter_bounded_lines(file, MAX_LINE_SIZE):
                row = decode_expiry(text)
                if row is None:
                    raise Finding("invalid-row", "VERI-14", "not a row of this sidecar", offset, "/".join(place))
                if "\0" not in row[0]:  # no file has such a name
                    yield row

    def _iter_pieces(self, place: Parts) -> Iterator[bytes]:
        with self._reading(place), opened(self._top, place) as file:
            while piece := file.read(PIECE_SIZE):
                yield piece

    def _iter_elements(self, place: Parts, type_: str) -> Iterator[Element]:
        with self._reading(place), opened(self._top, place) as file:
            yield from iter_blob_elements(file, type_, "/".join(place))

    def omissions(self) -> list[Omission]:
        """Return the omissions."""
        if not self._is_there((CHECKSUMS_NAME,)):
            return [Omission("partial-dump", 1, "", "the dump has no CHECKSUMS, so it is not whole")]
        if says_complete(self._manifest()) is False:
            return [Omission("partial-dump", 1, "", "the dump is partial, as `outcome` in MANIFEST.json says")]
        return []

    @property
    def is_part(self) -> bool:
        """True if MANIFEST.json says that the dump is a part of a store."""
        return says_part(self._manifest())

    def _manifest(self) -> dict[str, Any]:
        """Return the members of MANIFEST.json; {} if it cannot be read."""
        place = (MANIFEST_NAME,)
        if not self._is_there(place):
            return {}
        with self._reading(place), opened(self._top, place) as file:
            text = file.read(MAX_MANIFEST_SIZE + 1)
        with suppress(Finding):
            return decode_manifest(text)
        return {}

    def check_unchanged(self) -> None:
        """Do nothing: a file of a dump is read once, after it was verified."""


class DatabaseError(Exception):
    """The dump holds several databases and the caller named none, or not the one that the caller named."""


def _verify(out: str, progress: Progress | None) -> None:
    """Verify a whole dump. Raises the first finding."""
    found: list[Finding] = []
    Verification(out, lambda finding: found.append(finding) if not found else None, progress).run()
    if found:
        raise found[0]


def _size_of(directory: Directory, name: str) -> int:
    return directory.look(name).st_size


def _encode_order(user_key: bytes) -> bytes:
    """Return bytes without NUL that sort as user keys do in canonical order. [VISI-17]"""
    key = user_key.replace(b"\1", b"\1\2").replace(b"\0", b"\1\1").replace(b"\xff", b"\xff\1")
    return key + b"\xff\xff"


def _decode_order(order: bytes) -> bytes:
    return ESCAPED.sub(lambda match: BYTE_OF_ESCAPE[match[0]], order[:-2])


def _groups(sorter: TemporarySorter) -> Iterator[tuple[str, list[bytes]]]:
    for segment, records in groupby(sorter, key=lambda record: record[0]):
        yield os.fsdecode(segment), [note for _, note in records]
