"""The outputs of one run, in output order [OUTC-5]: blobs, and lines for the sidecars.

This module judges the records that the first pass found, decides which of them are shown,
and knows nothing of files. Records of two types are joined by user key without holding
either of them [RTTL-8] [RSTR-4]. A record is judged by the head of its body; the rest is
read only if it is shown.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, cast

from ekvformat import keys
from ekvformat.completeness import Counters
from ekvformat.decode import (
    BARE_SECTION,
    COLLECTION_SECTIONS,
    HLL_SECTION,
    PREFIX_OF_TYPE,
    STRING_SECTION,
    Options,
    Section,
)
from ekvformat.envelope import HAS_EXPIRY, MAX_EXPIRY_MS
from ekvformat.keymap import KEYMAP_NAME, render_keymap_line
from ekvformat.outcomes import Fault
from ekvformat.redis_ttls import MAX_ORPHAN_EXAMPLES, TTL_VALUE_SIZE, decode_ttl_value, render_expiry_line
from ekvformat.salvage import (
    MAX_UNREADABLE_EXAMPLES,
    TTL_KIND,
    UNREADABLE_DIRECTORY,
    UNREADABLE_NAME,
    render_unreadable_line,
)
from ekvformat.segments import encode_segment, is_fallback
from ekvformat.tree import HLLS, STRINGS, SUFFIXES, database_directory
from ekvformat.user_keys import ELEMENT, META, PACKED

from ekvdump.engine.collection_index import RANKS, Group
from ekvdump.engine.collection_reader import Collection, check_ttl, has_expiry_field, record_at_fault
from ekvdump.engine.first_pass import FirstPass
from ekvdump.engine.merge_join import MergeJoin
from ekvdump.engine.record_index import HEAD_SIZE, Record, RecordIndex, read_body
from ekvdump.engine.source import Progress, Source, WindowReader

Parts = tuple[str, ...]
"""Names from the output directory down to a file."""


FLAGS_AT: Final = 2
EXPIRY_AT: Final = 3
"""Where the fields of an envelope are in its body. [ENVL-4] [ENVL-5]"""
READING_COLLECTIONS: Final = "collections"
"""The stage of a run that reads collections."""
SHADOWING: Final = {keys.HLL: (STRING_SECTION,), keys.STRING: (), keys.BARE: (STRING_SECTION, HLL_SECTION)}
"""Type = what shadows its records. [TYPE-4]"""
PACKED_OF: Final = frozenset((keys.HASH, keys.SET, keys.ZSET))
"""Types whose packed records count where there are no elements. [COLL-6]"""
EXCLUDED: Final = b"e"
REDUNDANT: Final = b"r"
APPLIED: Final = b"a"
FATE_OF_MARK: Final = {EXCLUDED: "excluded", REDUNDANT: "redundant", APPLIED: "applied"}
"""Mark of a collection = what becomes of its TTL record."""
JOINING: Final = "TTL records"
"""The stage of a run that finds out which key each TTL record decides about."""


class Blob(NamedTuple):
    """An output: one payload or one unreadable body, for a file of its own."""

    directory: Parts
    name: str
    payload: bytes

    def iter_pieces(self) -> Iterator[bytes]:
        """Yield the content."""
        return iter((self.payload,))


class Document(NamedTuple):
    """An output: one collection, for a file of its own."""

    directory: Parts
    name: str
    iter_pieces: Callable[[], Iterator[bytes]]
    """Yields the content, as often as it is needed; a piece has at least one element."""


class Line(NamedTuple):
    """An output: one line of a sidecar."""

    directory: Parts
    sidecar: str
    line: bytes


def redis_directory(database: int) -> Parts:
    """Return the directory of one database. [TREE-1] [TREE-6] [TREE-2]"""
    return tuple(database_directory(database).split("/"))


def shown_count(counters: Counters) -> int:
    """Return how many keys have been written."""
    return counters.strings["written"] + counters.hlls["written"] + sum(counters.collections.values())


def is_value(output: Blob | Document | Line) -> bool:
    """Return True for the blob of a string or an HLL."""
    return isinstance(output, Blob) and output.directory[-1] in (STRINGS, HLLS)


def value_count(counters: Counters) -> int:
    """Return how many strings and HLLs there are; some of them may be shadowed, excluded or unreadable."""
    return sum(counters.entries[type_] for type_ in (keys.STRING, keys.BARE, keys.HLL))


def is_envelope(section: Section, record: Record) -> bool:
    """Return True if the body of a record is an envelope. [ENVL-1] [ENVL-2]"""
    return section.envelope_prefix is not None and record.head.startswith(section.envelope_prefix)


def decode_head(section: Section, record: Record) -> tuple[int, int | None]:
    """Judge the body of a record by its head; return how many bytes stand before the payload, and the expiry.

    Whole envelopes are read at a glance; what is wrong with others, `ekvformat` says. Raises `invalid-value`.
    """
    head = record.head
    prefix = section.envelope_prefix
    if prefix is None or not head.startswith(prefix):
        return 0, None  # [ENVL-3] [RSTR-3]
    if len(head) == HEAD_SIZE:
        # [ENVL-4] [ENVL-5] [ENVL-7]
        if head[FLAGS_AT] & HAS_EXPIRY:
            return HEAD_SIZE, min(int.from_bytes(head[EXPIRY_AT:], "big"), MAX_EXPIRY_MS)
        return EXPIRY_AT, None
    value = section.decode(head, record.body_offset, PREFIX_OF_TYPE[section.type] + record.user_key)
    return len(head) - len(value.payload), value.expiry_ms


class Outputs:
    """The outputs of one run, in output order, with the counters that are updated on the way.

    Without `payloads` those of strings and HLLs are left out, and only the counters are of use. `progress` is
    called with the records that were looked at.
    """

    def __init__(
        self,
        source: Source,
        first_pass: FirstPass,
        options: Options,
        progress: Progress | None = None,
        *,
        payloads: bool = True,
    ) -> None:
        self._source = source
        self._payloads = payloads
        self._progress = progress
        self.first_pass = first_pass
        self.options = options
        self._directory: Parts = redis_directory(options.database)
        self.counters = first_pass.counters
        self.orphan_examples: list[str] = []
        """Segments of orphans. [RTTL-11]"""
        self.unreadable_examples: list[str] = []
        """Segments of what is unreadable. [SALV-9]"""
        self.unreadable_count = 0
        """Lines of `unreadable.jsonl`. [SALV-9]"""
        self._collections = RecordIndex()
        """The user keys that are collections, in canonical order; the head says what decides their expiry."""

    def __iter__(self) -> Iterator[Blob | Document | Line]:
        try:
            for section in (HLL_SECTION, STRING_SECTION, BARE_SECTION):
                yield from self._iter_section(section)
            yield from self._iter_collections()
            yield from self._iter_ttl_records()
        finally:
            self._collections.close()

    def _wants(self, selectable: str) -> bool:
        """Return True if a kind of `SELECTABLE` is selected. [COMP-1]"""
        return self.options.only is None or selectable in self.options.only

    def _wants_key(self, user_key: bytes) -> bool:
        """Return True if a user key is wanted. [COMP-10]"""
        key, prefix = self.options.key, self.options.prefix
        return (key is None or user_key == key) and (prefix is None or user_key.startswith(prefix))

    # ---- records ----

    def _records(self, type_: str) -> RecordIndex:
        return self.first_pass.records[type_]

    def _join(self, section: Section) -> MergeJoin:
        return MergeJoin(self._records(section.type))

    def _read(self, record: Record, begin: int = 0) -> bytes:
        return read_body(self._source, record, begin) if self._payloads else b""

    # ---- strings and HLLs ----

    def _iter_section(self, section: Section) -> Iterator[Blob | Line]:
        counters = self.counters
        fates = counters.hlls if section is HLL_SECTION else counters.strings
        # [COMP-2]
        if not self._wants(section.directory):
            fates["excluded"] += counters.entries[section.type]
            return
        shadowing = [self._join(other) for other in SHADOWING[section.type]]
        is_damaged = self._damage_by_rows()
        prefix = PREFIX_OF_TYPE[section.type]
        directory = (*self._directory, section.directory)
        suffix = SUFFIXES[section.directory]

        for record in self._records(section.type):
            user_key = record.user_key
            if not self._wants_key(user_key):
                fates["excluded"] += 1  # [COMP-2]
                continue
            # [RSTR-4] [RHLL-4] [SALV-4]
            if shadowing and any(other.find(user_key) is not None for other in shadowing):
                fates["shadowed"] += 1
                continue
            segment = encode_segment(user_key)
            has_bad_row = is_damaged(user_key)  # not below: what an index raises is not about this value
            fault: Fault | None = None
            try:
                begin, expiry_ms = decode_head(section, record)
                if has_bad_row and not is_envelope(section, record):
                    detail = "a TTL record of another size decides about this key"
                    raise Fault("invalid-value", "RTTL-1", detail, record.body_offset, None, prefix + user_key)
            except Fault as error:
                fault = error  # nothing is yielded while it is handled: compiled, that could crash
            if fault is not None:
                yield from self._unreadable(section.kind, segment, prefix + user_key, record, fault)
                fates["unreadable"] += 1
                continue
            fates["written"] += 1
            # [RSTR-6] [RHLL-2]
            yield Blob(directory, segment + suffix, self._read(record, begin))
            # [SEGM-9]
            if is_fallback(segment):
                yield Line(self._directory, KEYMAP_NAME, render_keymap_line(segment, user_key))
            # [RSTR-7] [RHLL-3] [RTTL-15]
            if expiry_ms is not None:
                yield Line(self._directory, section.sidecar, render_expiry_line(segment, expiry_ms))

    def _damage_by_rows(self) -> Callable[[bytes], bool]:
        """Return a predicate: has this user key a malformed TTL record? [SALV-2]

        Without `salvage` the answer is not needed: the row itself raises the fault later.
        """
        if not self.options.salvage:
            return lambda _: False
        rows = MergeJoin(self._records(keys.TTL))

        def is_damaged(user_key: bytes) -> bool:
            row = rows.find(user_key)
            return row is not None and row.body_size != TTL_VALUE_SIZE

        return is_damaged

    def _unreadable(
        self, kind: str, segment: str, storage_key: bytes, record: Record, fault: Fault
    ) -> Iterator[Blob | Line]:
        """Yield the outputs of an unreadable record with `salvage`; raise the fault without. [SALV-1]"""
        if not self.options.salvage:
            raise fault
        self.unreadable_count += 1
        if len(self.unreadable_examples) < MAX_UNREADABLE_EXAMPLES:
            self.unreadable_examples.append(segment)
        # [SALV-7]
        name = f"{segment}.{kind}{SUFFIXES[UNREADABLE_DIRECTORY]}"
        yield Blob((*self._directory, UNREADABLE_DIRECTORY), name, self._read(record))
        offset = cast("int", fault.offset)  # always set for a value of the snapshot
        line = render_unreadable_line(segment, storage_key, offset, fault.clause, kind)
        yield Line(self._directory, UNREADABLE_NAME, line)

    # ---- collections ----

    def _iter_collections(self) -> Iterator[Blob | Document | Line]:
        """Judge the collections by user key, whatever their types are. [OUTC-5]"""
        index = self.first_pass.collections
        for type_, count in index.strays.items():
            fate = "orphan" if self._wants(COLLECTION_SECTIONS[type_].directory) else "excluded"
            self.counters.by_type[type_][fate] += count  # [TYPE-6] [COMP-12]
        if not index.records.record_count:
            return
        shadowing = [self._join(section) for section in (STRING_SECTION, HLL_SECTION, BARE_SECTION)]
        rows = MergeJoin(self._records(keys.TTL))
        done, total = 0, index.records.record_count
        for group in index.iter_groups():
            user_key = group.user_key
            is_shadowed = any(other.find(user_key) is not None for other in shadowing)
            for rank, count in group.counts.items():
                self._count_others(RANKS[rank][0], user_key, count, "another" if is_shadowed else group.type)
            if group.type is not None and not is_shadowed:
                yield from self._iter_collection(group, rows.find(user_key))
            done += group.record_count
            if self._progress:
                self._progress(READING_COLLECTIONS, done, total)

    def _count_others(self, type_: str, user_key: bytes, count: int, type_of_key: str | None) -> None:
        """Count records of a type, unless they are those of a collection that is wanted. [COMP-12]"""
        fates = self.counters.by_type[type_]
        if not (self._wants(COLLECTION_SECTIONS[type_].directory) and self._wants_key(user_key)):
            fates["excluded"] += count
        elif type_of_key is None:
            fates["orphan"] += count  # [TYPE-6]
        elif type_of_key != type_:
            fates["shadowed"] += count  # [TYPE-5]

    def _iter_collection(self, group: Group, row: Record | None) -> Iterator[Blob | Document | Line]:
        """Judge the collection that a user key is."""
        type_, user_key = group.type or "", group.user_key
        section = COLLECTION_SECTIONS[type_]
        if not (self._wants(section.directory) and self._wants_key(user_key)):
            self._collections.add(user_key, 0, 1, EXCLUDED)
            return
        fates = self.counters.by_type[type_]
        count = sum(count for rank, count in group.counts.items() if RANKS[rank][0] == type_)
        # [COLL-7]
        if type_ in PACKED_OF and group.count(ELEMENT):
            shadowed = group.count(PACKED)
            fates["shadowed"] += shadowed
            count -= shadowed
        segment = encode_segment(user_key)
        collection = self._judge_collection(group, row)
        self._collections.add(user_key, 0, 1, self._mark_of(group))
        if isinstance(collection, Fault):
            # [SALV-10]
            record = record_at_fault(group, collection)
            storage_key = cast("bytes", collection.key)
            yield from self._unreadable(type_, segment, storage_key, record, collection)
            fates["unreadable"] += count
            return
        try:
            fates["unread"] += collection.unread_count
            fates["written"] += count - collection.unread_count
            self.counters.collections[type_] += 1  # [COMP-13]
            # [RHAS-3] [RLIS-7] [RSET-3] [RZSE-5] [RSTM-9]
            name = segment + SUFFIXES[section.directory]
            yield Document((*self._directory, section.directory), name, collection.iter_pieces)
            # [SEGM-9]
            if is_fallback(segment):
                yield Line(self._directory, KEYMAP_NAME, render_keymap_line(segment, user_key))
        finally:
            collection.close()

    def _judge_collection(self, group: Group, row: Record | None) -> Collection | Fault:
        """Return a collection, or why no client could read it."""
        try:
            if self.options.salvage and row is not None and row.body_size != TTL_VALUE_SIZE:
                check_ttl(group)
            return Collection(WindowReader(self._source), group, row)
        except Fault as fault:
            if fault.name != "invalid-value":
                raise
            return fault

    def _mark_of(self, group: Group) -> bytes:
        """Return the fate of a TTL record of this user key. [RTTL-16] [RTTL-17]"""
        return REDUNDANT if has_expiry_field(group.type or "", group.first(META)) else APPLIED

    # ---- TTL records ----

    def _iter_ttl_records(self) -> Iterator[Blob | Line]:
        """Classify each TTL record. [RTTL-4]"""
        fates = self.counters.ttls
        # [TYPE-4] [RTTL-8]
        owners = [(section, self._join(section)) for section in (STRING_SECTION, HLL_SECTION, BARE_SECTION)]
        collections = MergeJoin(self._collections)

        total = self._records(keys.TTL).record_count
        for number, record in enumerate(self._records(keys.TTL), 1):
            user_key = record.user_key
            body = record.head if record.body_size <= HEAD_SIZE else self._read(record)
            if self._progress:
                self._progress(JOINING, number, total)
            fault: Fault | None = None
            try:
                expiry_ms = decode_ttl_value(body, record.body_offset, keys.TTL_PREFIX + user_key)
            except Fault as error:
                fault = error
            if fault is not None:
                # [SALV-3]
                storage_key = keys.TTL_PREFIX + user_key
                yield from self._unreadable(TTL_KIND, encode_segment(user_key), storage_key, record, fault)
                fates["unreadable"] += 1
                continue

            found = next(((section, owner) for section, records in owners if (owner := records.find(user_key))), None)
            if found is None:
                collection = collections.find(user_key)
                if collection is not None:
                    fates[FATE_OF_MARK[collection.head]] += 1
                    continue
                # [RTTL-10] [RTTL-12] All are counted; the segments of a few are kept as examples.
                fates["orphan"] += 1
                if len(self.orphan_examples) < MAX_ORPHAN_EXAMPLES:
                    self.orphan_examples.append(encode_segment(user_key))
                continue

            section, owner = found
            if not (self._wants(section.directory) and self._wants_key(user_key)):
                fates["excluded"] += 1  # [COMP-2]
            elif is_envelope(section, owner):
                fates["redundant"] += 1  # [RTTL-5]
            else:
                fates["applied"] += 1  # [RTTL-6] [RTTL-7]
                yield Line(self._directory, section.sidecar, render_expiry_line(encode_segment(user_key), expiry_ms))
