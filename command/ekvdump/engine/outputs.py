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
    HLL_SECTION,
    PREFIX_OF_TYPE,
    STRING_SECTION,
    Options,
    Section,
)
from ekvformat.envelope import HAS_EXPIRY, MAX_EXPIRY_MS
from ekvformat.keymap import KEYMAP_NAME, render_keymap_line
from ekvformat.outcomes import Fault
from ekvformat.redis_hlls import decode_hll_value
from ekvformat.redis_ttls import MAX_ORPHAN_EXAMPLES, TTL_VALUE_SIZE, decode_ttl_value, render_expiry_line
from ekvformat.salvage import (
    MAX_UNREADABLE_EXAMPLES,
    TTL_KIND,
    UNREADABLE_DIRECTORY,
    UNREADABLE_NAME,
    render_unreadable_line,
)
from ekvformat.segments import encode_segment, is_fallback
from ekvformat.tree import HLLS, STRINGS, database_directory

from ekvdump.engine.first_pass import FirstPass
from ekvdump.engine.merge_join import MergeJoin
from ekvdump.engine.record_index import HEAD_SIZE, Record, RecordIndex, read_body
from ekvdump.engine.source import Progress, Source

Parts = tuple[str, ...]
"""Names from the output directory down to a file."""

SELECTABLE: Final = (STRINGS, HLLS)
"""The kinds of blobs that a caller can select, and the names of their directories. [COMP-1]"""


FLAGS_AT: Final = 2
EXPIRY_AT: Final = 3
"""Where the fields of an envelope are in its body. [ENVL-4] [ENVL-5]"""
JOINING: Final = "TTL records"
"""The stage of a run that finds out which key each TTL record decides about."""


class Blob(NamedTuple):
    """An output: one payload, for a file of its own."""

    directory: Parts
    segment: str
    payload: bytes


class Line(NamedTuple):
    """An output: one line of a sidecar."""

    directory: Parts
    sidecar: str
    line: bytes


def redis_directory(database: int) -> Parts:
    """Return the directory of one database. [TREE-1] [TREE-6] [TREE-2]"""
    return tuple(database_directory(database).split("/"))


def shown_count(counters: Counters) -> int:
    """Return how many keys have been written as a string or an HLL."""
    return counters.strings["written"] + counters.hlls["written"]


def showable_count(counters: Counters) -> int:
    """Return how many keys could be: some of them may be shadowed, excluded or unreadable."""
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

    Without a `source` payloads are left out, and only the counters are of use. `progress` is called with
    the TTL records that were looked at.
    """

    def __init__(
        self, source: Source | None, first_pass: FirstPass, options: Options, progress: Progress | None = None
    ) -> None:
        self._source = source
        self._progress = progress
        self.first_pass = first_pass
        self.options = options
        self._directory: Parts = redis_directory(options.database)
        self.counters = first_pass.counters
        self.orphan_examples: list[str] = []
        """Segments of orphans. [RTTL-11]"""
        self.unreadable_examples: list[str] = []
        """Segments of unreadable records. [SALV-9]"""

    def __iter__(self) -> Iterator[Blob | Line]:
        for section in (HLL_SECTION, STRING_SECTION, BARE_SECTION):
            yield from self._iter_section(section)
        yield from self._iter_ttl_records()

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
        return b"" if self._source is None else read_body(self._source, record, begin)

    # ---- strings and HLLs ----

    def _iter_section(self, section: Section) -> Iterator[Blob | Line]:
        counters = self.counters
        fates = counters.hlls if section is HLL_SECTION else counters.strings
        # [COMP-2]
        if not self._wants(section.directory):
            fates["excluded"] += counters.entries[section.type]
            return
        shadowing = self._join(STRING_SECTION) if section is BARE_SECTION else None
        is_damaged = self._damage_by_rows(section)
        is_in_keymap = self._lines_of_hlls(section)
        prefix = PREFIX_OF_TYPE[section.type]
        directory = (*self._directory, section.directory)

        for record in self._records(section.type):
            user_key = record.user_key
            if not self._wants_key(user_key):
                fates["excluded"] += 1  # [COMP-2]
                continue
            # [RSTR-4] [SALV-4]
            if shadowing is not None and shadowing.find(user_key) is not None:
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
                yield from self._unreadable(section.kind, segment, prefix, record, fault)
                fates["unreadable"] += 1
                continue
            fates["written"] += 1
            # [RSTR-6] [RHLL-2]
            yield Blob(directory, segment, self._read(record, begin))
            # [SEGM-9] [KMAP-2]
            if is_fallback(segment) and not is_in_keymap(user_key):
                yield Line(self._directory, KEYMAP_NAME, render_keymap_line(segment, user_key))
            # [RSTR-7] [RHLL-3] [RTTL-15]
            if expiry_ms is not None:
                yield Line(self._directory, section.sidecar, render_expiry_line(segment, expiry_ms))

    def _damage_by_rows(self, section: Section) -> Callable[[bytes], bool]:
        """Return a predicate: does a malformed TTL record govern this user key? [SALV-2]

        Without `salvage` the answer is not needed: the row itself raises the fault later.
        """
        if not self.options.salvage:
            return lambda _: False
        rows = MergeJoin(self._records(keys.TTL))
        # [RTTL-8] If the key has a string too, the row governs the string.
        others = [self._join(STRING_SECTION), self._join(BARE_SECTION)] if section is HLL_SECTION else []

        def is_damaged(user_key: bytes) -> bool:
            row = rows.find(user_key)
            if row is None or row.body_size == TTL_VALUE_SIZE:
                return False
            return all(other.find(user_key) is None for other in others)

        return is_damaged

    def _lines_of_hlls(self, section: Section) -> Callable[[bytes], bool]:
        """Return a predicate: does this user key have its KEYMAP line already, as an HLL? [KMAP-2] [KMAP-3]"""
        if section is HLL_SECTION or not self._wants(HLLS):
            return lambda _: False
        hlls = self._join(HLL_SECTION)

        def is_in_keymap(user_key: bytes) -> bool:
            record = hlls.find(user_key)
            if record is None:
                return False
            try:
                decode_hll_value(record.head)
            except Fault:
                return False  # it is not shown [SALV-1]
            return True

        return is_in_keymap

    def _unreadable(
        self, kind: str, segment: str, prefix: bytes, record: Record, fault: Fault
    ) -> Iterator[Blob | Line]:
        """Yield the outputs of an unreadable record with `salvage`; raise the fault without. [SALV-1]"""
        if not self.options.salvage:
            raise fault
        if len(self.unreadable_examples) < MAX_UNREADABLE_EXAMPLES:
            self.unreadable_examples.append(segment)
        # [SALV-7]
        yield Blob((*self._directory, UNREADABLE_DIRECTORY), f"{segment}.{kind}", self._read(record))
        offset = cast("int", fault.offset)  # always set for a value of the snapshot
        line = render_unreadable_line(segment, prefix + record.user_key, offset, fault.clause, kind)
        yield Line(self._directory, UNREADABLE_NAME, line)

    # ---- TTL records ----

    def _iter_ttl_records(self) -> Iterator[Blob | Line]:
        """Classify each TTL record. [RTTL-4]"""
        fates = self.counters.ttls
        # [RTTL-8] The row governs the string if there is one, a prefixed one before a bare one. [RSTR-4]
        owners = [(section, self._join(section)) for section in (STRING_SECTION, BARE_SECTION, HLL_SECTION)]
        without_owner = "unclaimed" if self.first_pass.has_collections else "orphan"  # [RTTL-9] [RTTL-10]

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
                yield from self._unreadable(TTL_KIND, encode_segment(user_key), keys.TTL_PREFIX, record, fault)
                fates["unreadable"] += 1
                continue

            found = next(((section, owner) for section, records in owners if (owner := records.find(user_key))), None)
            if found is None:
                # [RTTL-10] [RTTL-12] All are counted; the segments of a few are kept as examples.
                fates[without_owner] += 1
                if without_owner == "orphan" and len(self.orphan_examples) < MAX_ORPHAN_EXAMPLES:
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
