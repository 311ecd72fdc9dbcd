"""The keys of a snapshot. Nothing is written, and the whole file is judged before the first key is given."""

import heapq
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from typing import Final, Self

from ekvformat import keys
from ekvformat.decode import BARE_SECTION, HLL_SECTION, PREFIX_OF_TYPE, STRING_SECTION, Section
from ekvformat.outcomes import Fault
from ekvformat.redis_ttls import TTL_VALUE_SIZE, decode_ttl_value

from ekvdump.engine.first_pass import run_first_pass
from ekvdump.engine.merge_join import MergeJoin
from ekvdump.engine.outputs import decode_head, is_envelope
from ekvdump.engine.record_index import Record, iter_body
from ekvdump.engine.refusals import judged_whole
from ekvdump.engine.source import Progress, ProgressSource, SnapshotFile, Source
from ekvdump.queries.keys import HLL, PIECE_SIZE, STRING, Key, Omission, Selection, canonical_order
from ekvdump.queries.notation import shell_word_of

VALUE_TYPES: Final = (keys.STRING, keys.BARE, keys.HLL)
"""Types of records that hold a value."""
MOST_NAMED: Final = 10
"""Most unreadable keys that are named; all are counted."""


class SnapshotKeys:
    """The keys of a snapshot. `KeySource`."""

    def __init__(self, path: str, progress: Progress | None = None) -> None:
        self.path = path
        self._source = SnapshotFile(path)
        try:
            with judged_whole(self._source):
                self.first_pass = run_first_pass(ProgressSource(self._source, progress) if progress else self._source)
        except BaseException:
            self._source.__exit__()
            raise
        self.is_part = False
        self._unreadable_count = 0
        self._unreadable: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.first_pass.close()
        self._source.__exit__()

    def iter_keys(self, selection: Selection) -> Iterator[Key]:
        """Yield the keys that are wanted, in canonical order. What no client could read is counted and left out."""
        self._unreadable_count = 0
        self._unreadable.clear()
        rows = MergeJoin(self.first_pass.records[keys.TTL])
        for user_key, records in self._iter_user_keys():
            if not selection.wants(user_key):
                continue
            row = rows.find(user_key)
            for type_, section, record in shown_records(records):
                if type_ in selection.types:
                    try:
                        key = decode_key(self._source, user_key, type_, section, record, row)
                    except Fault:
                        self._unreadable_count += 1
                        if len(self._unreadable) < MOST_NAMED:
                            self._unreadable.append(shell_word_of(user_key))
                    else:
                        yield key
                row = None  # [RTTL-8] It decides about the string, if there is one.

    def find(self, user_key: bytes, type_: str | None) -> Key | None:
        """Return the key of this name, of this type or of the first that it has; None if there is none.

        Raises `invalid-value` for a value that no client could read.
        """
        records = {
            type_: record
            for type_, index in self.first_pass.records.items()
            for record in index
            if record.user_key == user_key
        }
        row = records.get(keys.TTL)
        for each, section, record in shown_records(records):
            if type_ in (None, each):
                return decode_key(self._source, user_key, each, section, record, row)
            row = None  # [RTTL-8]
        return None

    def _iter_user_keys(self) -> Iterator[tuple[bytes, dict[str, Record]]]:
        """Yield each user key that has a string or an HLL, with its record of each type."""
        types = [type_ for type_ in VALUE_TYPES if self.first_pass.records[type_].record_count]
        if len(types) == 1:
            for record in self.first_pass.records[types[0]]:
                yield record.user_key, {types[0]: record}
            return
        merged = heapq.merge(*map(self._iter_ordered, types), key=lambda each: each[0])
        for _, group in groupby(merged, key=lambda each: each[0]):
            records = {type_: record for _, type_, record in group}
            yield next(iter(records.values())).user_key, records

    def _iter_ordered(self, type_: str) -> Iterator[tuple[str, str, Record]]:
        for record in self.first_pass.records[type_]:
            yield canonical_order(record.user_key), type_, record

    def omissions(self) -> list[Omission]:
        """Return the omissions. [COMP-5]"""
        counters = self.first_pass.counters
        hidden = counters.undecoded | {keys.UNKNOWN: counters.entries[keys.UNKNOWN]}
        names = {keys.UNKNOWN: "unknown-prefix"}
        omitted = [
            Omission(names.get(type_, "undecoded-type"), count, "record", f"of type {type_}")
            for type_, count in hidden.items()
            if count
        ]
        if self._unreadable_count:
            words = f"with a value that no client could read: {' '.join(self._unreadable)}"
            if more := self._unreadable_count - len(self._unreadable):
                words += f" and {more} more"
            omitted.append(Omission("unreadable-value", self._unreadable_count, "key", words))
        return omitted

    def check_unchanged(self) -> None:
        """Raise `changed` if the file has changed since it was opened. [FILE-22]"""
        self._source.check_unchanged()


def shown_records(records: dict[str, Record]) -> list[tuple[str, Section, Record]]:
    """Return the records of a user key that are shown, the string first, each with its type of key and its section."""
    shown = []
    if (record := records.get(keys.STRING)) is not None:
        shown.append((STRING, STRING_SECTION, record))
    elif (record := records.get(keys.BARE)) is not None:
        shown.append((STRING, BARE_SECTION, record))  # [RSTR-4]
    if (record := records.get(keys.HLL)) is not None:
        shown.append((HLL, HLL_SECTION, record))
    return shown


def decode_key(
    source: Source, user_key: bytes, type_: str, section: Section, record: Record, row: Record | None
) -> Key:
    """Return a key, judged by the head of its body and by the TTL record that decides about it, if there is one.

    Raises `invalid-value`.
    """
    begin, expiry_ms = decode_head(section, record)
    # [ENVL-11] [RTTL-5]
    if row is not None and not is_envelope(section, record):
        if row.body_size != TTL_VALUE_SIZE:
            detail = "a TTL record of another size decides about this key"
            storage_key = PREFIX_OF_TYPE[section.type] + user_key
            raise Fault("invalid-value", "RTTL-1", detail, record.body_offset, None, storage_key)
        expiry_ms = decode_ttl_value(row.head)
    return Key(
        user_key, type_, record.body_size - begin, expiry_ms, partial(iter_body, source, record, begin, PIECE_SIZE)
    )
