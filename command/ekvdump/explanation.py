"""Explaining a snapshot: its fields as annotated hex, and the story of one key.

What cannot be read is explained too: a snapshot that is refused is shown up to the bytes at
fault. The fields are those of `ekvexplain`; which version counts and what becomes of it is
what the reference makes of the entries of that key alone.
"""

from collections.abc import Iterator
from typing import Final, Self

from ekvexplain.fields import (
    HEAD_SIZE,
    NOT_WHOLE,
    footer_field,
    iter_entry_fields,
    iter_start_fields,
    piece_at,
    render_field,
)
from ekvexplain.pieces import Field, printable
from ekvformat import keys, snapshot_file
from ekvformat.completeness import Counters
from ekvformat.decode import BARE_SECTION, HLL_SECTION, STRING_SECTION, Options, Outputs, make_tables
from ekvformat.outcomes import Fault
from ekvformat.user_keys import LIST_META_SIZES, SHAPES
from ekvformat.visibility import (
    VALUE_HEADER_SIZE,
    VERSION_SUFFIX_SIZE,
    decode_version,
    is_operational,
    visible_records,
)

from ekvdump.engine.collection_index import RANKS, split_storage_key
from ekvdump.engine.entries import LONGEST_START, Entry, as_in_memory, decode_start, iter_entries
from ekvdump.engine.key_types import prefix_of
from ekvdump.engine.source import Progress, ProgressSource, SnapshotFile, Source
from ekvdump.inspection import Inspection, inspect

MOST_TOLD: Final = 20
"""Most storage keys of which the versions are shown: a collection may have a million of them."""
PREFIXES: Final = {
    "string": keys.PREFIXES[keys.STRING][0], "hll": keys.PREFIXES[keys.HLL][0], "ttl": keys.PREFIXES[keys.TTL][0],
    "bare": b"",
}  # fmt: skip
"""Type = what its storage keys have before the user key. [KEYS-1]"""


class Explanation:
    """An open snapshot, and what `inspect` says of it. A context manager.

    Raises `io-error` or `changed`; any other fault is part of the explanation.
    """

    def __init__(self, path: str, progress: Progress | None = None) -> None:
        # Opened first, so that a file that takes its place during the inspection is noticed at the end.
        self._file = SnapshotFile(path)
        self._source: Source = ProgressSource(self._file, progress) if progress else self._file
        self.inspection: Inspection = inspect(path, progress)
        self.is_unknown_key = False
        """True once the story of a key has turned out to be empty."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.__exit__()

    def check_unchanged(self) -> None:
        """Raise `changed` if what was explained is not what was inspected. [FILE-22]"""
        self._file.check_unchanged()

    @property
    def fault(self) -> Fault | None:
        """Why the snapshot is refused; None if its structure, footer and value headers are sound."""
        return self.inspection.fault

    def iter_fields(self) -> Iterator[Field]:
        """Yield all fields of the file, as far as they can be read; behind them, what is left of a broken file."""
        source = self._source
        start_fields = list(iter_start_fields(source.read(0, min(source.size, LONGEST_START))))
        end = sum(field.size for field in start_fields)
        try:
            start = decode_start(source)
        except Fault:
            yield from start_fields
            yield from self._rest(end)
            return
        end = start.entries_offset
        yield from (field for field in start_fields if field.offset < end)
        try:
            for entry in iter_entries(source, end, source.size):
                _, _, value_offset, value_size, _ = entry
                end = value_offset + value_size
                yield from self._fields_of(entry)
        except Fault:
            yield from self._rest(end)
            return
        if end < source.size:
            yield footer_field(end, source.read(end, source.size - end))

    def _fields_of(self, entry: Entry) -> Iterator[Field]:
        offset, key, value_offset, value_size, _ = entry
        head = self._source.read(value_offset, min(value_size, HEAD_SIZE))
        return iter_entry_fields(offset, key, head, value_size)

    def _rest(self, offset: int) -> Iterator[Field]:
        if left := self._source.size - offset:
            yield Field(offset, self._source.read(offset, min(left, HEAD_SIZE)), left, NOT_WHOLE, "FILE-15")

    # ---- the story of a key ----

    def iter_story(self, user_key: bytes) -> Iterator[str | Field]:
        """Yield the story of a user key: lines, and the fields of its versions."""
        if self.fault is not None:
            return
        start = decode_start(self._source)
        storage_keys = {prefix + user_key: f"of the type {type_}" for type_, prefix in PREFIXES.items()}
        if user_key.startswith(b"!"):
            del storage_keys[user_key]  # [KEYS-3] Bare keys do not begin like this.
        stories: dict[bytes, list[Entry]] = {storage_key: [] for storage_key in storage_keys}
        for entry in iter_entries(self._source, start.entries_offset, self._source.size):
            storage_key = storage_key_of(entry)
            if storage_key not in stories and (words := part_of_collection(entry, user_key)):
                storage_keys[storage_key], stories[storage_key] = words, []
            if storage_key in stories and not is_operational(as_in_memory(entry)):
                stories[storage_key].append(entry)
        entries = [entry for versions in stories.values() for entry in versions]
        if not entries:
            self.is_unknown_key = True
            yield f"{printable(user_key)}: nothing has ever been stored under this key"
            return
        yield f"{printable(user_key)}, as of the last commit, {start.last_commit_ts}"
        told = [(storage_key, versions) for storage_key, versions in stories.items() if versions]
        for storage_key, versions in told[:MOST_TOLD]:
            yield f"  {printable(storage_key)}, {storage_keys[storage_key]}"
            yield from self._iter_versions(versions, start.last_commit_ts)
        if len(told) > MOST_TOLD:
            yield f"  and {len(told) - MOST_TOLD} storage keys more"
        yield "  what becomes of it"
        yield from self._iter_fate(entries, start.last_commit_ts)

    def _iter_versions(self, versions: list[Entry], last_commit_ts: int) -> Iterator[str | Field]:
        counts = False
        for entry in versions:
            version = decode_version(as_in_memory(entry))
            if version.commit_ts > last_commit_ts:
                words = "future: above the last commit [VISI-14]"
            elif counts:
                words = "history: an older version [VISI-11]"
            else:
                counts = True
                words = "counts: the newest version that is not above the last commit [VISI-11]"
                if version.is_tombstone:
                    words += "; a tombstone, so the key is deleted [VISI-12]"
                elif 0 < version.expire_at <= last_commit_ts:
                    words += f"; its expire_at, {version.expire_at}, has passed, so the key does not exist [VISI-13]"
            yield f"    committed at {version.commit_ts}: {words}"
            yield from self._fields_of(entry)

    def _iter_fate(self, entries: list[Entry], last_commit_ts: int) -> Iterator[str]:
        whole = [self._in_memory(entry) for entry in entries]
        records = visible_records(whole, last_commit_ts, Counters())
        if not records:
            yield "    it does not exist: nothing of it is in the dump"
            return
        for salvage in (False, True):
            outputs = Outputs(make_tables(records, Counters()), Counters(), Options(salvage=salvage))
            try:
                for section in (HLL_SECTION, STRING_SECTION, BARE_SECTION):
                    outputs.add_section(section)
                outputs.add_collections()
                outputs.add_ttls()
            except Fault as fault:
                yield f"    refused: offset {fault.offset}: {fault.detail} [{fault.name}, {fault.clause}]"
                yield "    with --salvage:"
                continue
            yield from _iter_outputs(outputs)
            return

    def _in_memory(self, entry: Entry) -> snapshot_file.Entry:
        """Return an entry with the whole of its value."""
        _, _, value_offset, value_size, _ = entry
        return as_in_memory(entry)._replace(value=self._source.read(value_offset, value_size))


def storage_key_of(entry: Entry) -> bytes:
    """Return what an entry has before its version suffix. [VISI-1]"""
    _, key, _, _, _ = entry
    return key[:-VERSION_SUFFIX_SIZE]


def part_of_collection(entry: Entry, user_key: bytes) -> str | None:
    """Describe an entry as a part of the collection under this user key; None if it is no part of one."""
    storage_key = storage_key_of(entry)
    prefix = prefix_of(storage_key)
    if prefix not in SHAPES:
        return None
    _, _, _, value_size, _ = entry
    # [TYPE-3] A tombstone has no body, so it may belong to either of two keys.
    sizes = (value_size - VALUE_HEADER_SIZE, *(LIST_META_SIZES if value_size <= VALUE_HEADER_SIZE else ()))
    for size in sizes:
        place = split_storage_key(storage_key, prefix, size)
        if place is not None and place[1] == user_key:
            type_, kind = RANKS[place[0]]
            return f"{kind} of a {type_}"
    return None


def _iter_outputs(outputs: Outputs) -> Iterator[str]:
    for path, content in outputs.blobs.items():
        yield f"    {path}: {len(content)} bytes"
    for path, lines in outputs.sidecars.items():
        for line in lines:
            yield f"    {path}: {line.decode().rstrip()}"
    for group, counts in vars(outputs.counters).items():
        for name, count in counts.items() if group not in ("entries", "undecoded", "collections") else ():
            if count:
                yield f"    counted in {group}: {name}" + (f", {count} times" if count > 1 else "")


def iter_lines(explanation: Explanation, key: bytes | None, offset: int | None) -> Iterator[str]:
    """Yield the lines of an explanation.

    Of a key; of the entry that an offset is in; of the bytes at fault, if the snapshot is refused;
    of the whole file otherwise.
    """
    fault, value_fault = explanation.fault, explanation.inspection.value_fault
    asked = offset
    if offset is None and fault is not None:
        offset = fault.offset  # the bytes at fault
    elif offset is None and value_fault is not None and value_fault.offset is not None:
        offset = value_fault.offset - 1  # what is missing at the end of a value is not in its entry
    if key is not None:
        if fault is not None:
            yield "The snapshot is refused, so nothing can be said of a key."
        for each in explanation.iter_story(key):
            yield from [each] if isinstance(each, str) else (f"  {line}" for line in render_field(each))
        return
    fields = explanation.iter_fields() if offset is None else piece_at(explanation.iter_fields(), offset)
    first: Field | None = None
    for field in fields:
        first = first or field
        yield from render_field(field, offset)
    if asked and first is not None and first.offset == asked:
        yield f"What is missing at the end of the piece before has this offset too: --offset {asked - 1} shows that one"
