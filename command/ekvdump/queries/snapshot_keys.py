"""The keys of a snapshot. Nothing is written, and the whole file is judged before the first key is given."""

import heapq
from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Final, Self

from ekvformat import keys
from ekvformat.decode import BARE_SECTION, HLL_SECTION, PREFIX_OF_TYPE, SECTIONS, STRING_SECTION, Section
from ekvformat.outcomes import Fault
from ekvformat.redis_ttls import TTL_VALUE_SIZE, decode_ttl_value
from ekvformat.redis_zsets import render_score

from ekvdump.engine.collection_index import Group
from ekvdump.engine.collection_reader import SCORE, Collection, check_ttl
from ekvdump.engine.first_pass import run_first_pass
from ekvdump.engine.merge_join import MergeJoin
from ekvdump.engine.outputs import SHADOWING, decode_head, is_envelope
from ekvdump.engine.record_index import Record, iter_body
from ekvdump.engine.refusals import judged_whole
from ekvdump.engine.source import Progress, ProgressSource, SnapshotFile, Source, WindowReader
from ekvdump.queries.keys import HLL, PIECE_SIZE, STRING, Element, Key, Omission, Selection, canonical_order
from ekvdump.queries.notation import shell_word_of

VALUE_TYPES: Final = (keys.STRING, keys.BARE, keys.HLL)
"""Types of records that hold a value."""
TYPE_OF_SECTION: Final = {keys.STRING: STRING, keys.BARE: STRING, keys.HLL: HLL}
"""Type of a record = the type of its key."""
Stored = tuple[Section, Record] | Group
"""What is stored of a key: a record and how it is decoded, or the records of a collection."""
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
        """Yield the keys that are wanted, in canonical order. What no client could read is counted and left out.

        A key can be read until the next one is asked for.
        """
        self._unreadable_count = 0
        self._unreadable.clear()
        rows = MergeJoin(self.first_pass.records[keys.TTL])
        for user_key, type_, stored in self._iter_stored():
            if not (type_ in selection.types and selection.wants(user_key)):
                continue
            opened: Collection | None = None
            key: Key | None = None
            try:
                if isinstance(stored, Group):
                    opened = self._open(stored, rows.find(user_key))
                    key = key_of(opened)
                else:
                    section, record = stored
                    key = decode_key(self._source, user_key, type_, section, record, rows.find(user_key))
            except Fault as fault:
                if fault.name != "invalid-value":
                    raise
                self._unreadable_count += 1
                if len(self._unreadable) < MOST_NAMED:
                    self._unreadable.append(shell_word_of(user_key))
            try:
                if key is not None:
                    yield key
            finally:
                if opened is not None:
                    opened.close()

    def _open(self, group: Group, row: Record | None) -> Collection:
        """Return a collection. Raises `invalid-value`."""
        if row is not None and row.body_size != TTL_VALUE_SIZE:
            check_ttl(group)  # [SALV-11]
        return Collection(WindowReader(self._source), group, row)

    def find(self, user_key: bytes, type_: str | None) -> Key | None:
        """Return the key of this name, of this type or of the first that it has; None if there is none.

        Raises `invalid-value` for a value that no client could read.
        """
        row = self._record_of(keys.TTL, user_key)
        # [TYPE-4]
        for section in (STRING_SECTION, HLL_SECTION, BARE_SECTION):
            record = self._record_of(section.type, user_key)
            if record is not None:
                each = TYPE_OF_SECTION[section.type]
                return decode_key(self._source, user_key, each, section, record, row) if type_ in (None, each) else None
        for group in self.first_pass.collections.iter_groups():
            if group.user_key == user_key and group.type is not None:
                return key_of(self._open(group, row)) if type_ in (None, group.type) else None
        return None

    def _record_of(self, type_: str, user_key: bytes) -> Record | None:
        return next((record for record in self.first_pass.records[type_] if record.user_key == user_key), None)

    def _iter_stored(self) -> Iterator[tuple[bytes, str, Stored]]:
        """Yield each user key with its type and what is stored of it. [TYPE-4]"""
        types = [type_ for type_ in VALUE_TYPES if self.first_pass.records[type_].record_count]
        sources: list[Iterator[tuple[bytes, str, Stored]]] = [self._iter_values(type_) for type_ in types]
        if self.first_pass.collections.records.record_count:
            sources.append(self._iter_collections())
        if len(sources) == 1:
            yield from sources[0]
            return
        # The shadowed ones are left out already, so that no user key comes twice.
        yield from heapq.merge(*sources, key=lambda each: canonical_order(each[0]))

    def _iter_values(self, type_: str) -> Iterator[tuple[bytes, str, Stored]]:
        section = SECTIONS[type_]
        assert isinstance(section, Section)  # noqa: S101
        named = TYPE_OF_SECTION[type_]
        shadowing = [MergeJoin(self.first_pass.records[other.type]) for other in SHADOWING[type_]]
        for record in self.first_pass.records[type_]:
            if not any(other.find(record.user_key) for other in shadowing):
                yield record.user_key, named, (section, record)

    def _iter_collections(self) -> Iterator[tuple[bytes, str, Stored]]:
        shadowing = [MergeJoin(self.first_pass.records[type_]) for type_ in VALUE_TYPES]
        for group in self.first_pass.collections.iter_groups():
            if group.type is not None and not any(other.find(group.user_key) for other in shadowing):
                yield group.user_key, group.type, group

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


def key_of(collection: Collection) -> Key:
    """Return a collection as a key."""
    return Key(
        collection.user_key, collection.type, None, collection.expiry_ms, collection.iter_pieces,
        partial(iter_elements, collection), collection.meta.last_id,
    )  # fmt: skip


def iter_elements(collection: Collection) -> Iterator[Element]:
    """Yield the elements of a collection. Raises `changed`."""
    if collection.type == keys.STREAM:
        for element in collection.iter_stream_elements():
            yield element.id, *chain.from_iterable(element.fields)
        return
    for name, value in collection.iter_elements():
        if collection.type == keys.HASH:
            yield name, value
        elif collection.type == keys.ZSET:
            yield render_score(SCORE.unpack(value)[0]).strip('"').encode(), name
        else:
            yield (value if collection.type == keys.LIST else name,)


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
