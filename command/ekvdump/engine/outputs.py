"""The outputs of one run, in output order [OUTC-5]: blobs, and lines for the sidecars.

The second pass reads the sections of the snapshot; this module decodes the records, decides
which of them are shown, and knows nothing of files. Sections are joined by key without
holding either of them [RTTL-8] [RSTR-4].
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

from ekvdump.engine.first_pass import FirstPass, iter_section
from ekvdump.engine.merge_join import MergeJoin
from ekvdump.engine.source import Source
from ekvdump.engine.versions import Record

Parts = tuple[str, ...]
"""Names from the output directory down to a file."""

SELECTABLE: Final = (STRINGS, HLLS)
"""The kinds of blobs that a caller can select, and the names of their directories. [COMP-1]"""


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


class Outputs:
    """The outputs of one run, in output order, with the counters that are updated on the way."""

    def __init__(self, source: Source, first_pass: FirstPass, options: Options) -> None:
        self._source = source
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

    # ---- records ----

    def _records(self, type_: str) -> Iterator[Record]:
        return iter_section(self._source, self.first_pass, type_)

    def _join(self, section: Section) -> MergeJoin:
        return MergeJoin(self._records(section.type), PREFIX_OF_TYPE[section.type])

    def _body(self, record: Record) -> bytes:
        return self._source.read(record.body_offset, record.body_size)

    def _is_envelope(self, section: Section, record: Record) -> bool:
        if section.envelope_prefix is None:
            return False
        size = min(len(section.envelope_prefix), record.body_size)
        return self._source.read(record.body_offset, size) == section.envelope_prefix

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
        prefix_size = len(PREFIX_OF_TYPE[section.type])

        for record in self._records(section.type):
            user_key = record.storage_key[prefix_size:]
            # [RSTR-4] [SALV-4]
            if shadowing is not None and shadowing.find(user_key) is not None:
                fates["shadowed"] += 1
                continue
            body = self._body(record)
            segment = encode_segment(user_key)
            has_bad_row = is_damaged(user_key)  # not below: what reading the snapshot raises is not about this value
            try:
                value = section.decode(body, record.body_offset, record.storage_key)
                if has_bad_row and not (section.envelope_prefix and body.startswith(section.envelope_prefix)):
                    detail = "a TTL record of another size decides about this key"
                    raise Fault("invalid-value", "RTTL-1", detail, record.body_offset, None, record.storage_key)
            except Fault as fault:
                yield from self._unreadable(section.kind, segment, record, body, fault)
                fates["unreadable"] += 1
                continue
            fates["written"] += 1
            # [RSTR-6] [RHLL-2]
            yield Blob((*self._directory, section.directory), segment, value.payload)
            # [SEGM-9] [KMAP-2]
            if is_fallback(segment) and not is_in_keymap(user_key):
                yield Line(self._directory, KEYMAP_NAME, render_keymap_line(segment, user_key))
            # [RSTR-7] [RHLL-3] [RTTL-15]
            if value.expiry_ms is not None:
                yield Line(self._directory, section.sidecar, render_expiry_line(segment, value.expiry_ms))
            del body, value  # at most two copies of a payload are held, and none while the next is read

    def _damage_by_rows(self, section: Section) -> Callable[[bytes], bool]:
        """Return a predicate: does a malformed TTL record govern this user key? [SALV-2]

        Without `salvage` the answer is not needed: the row itself raises the fault later.
        """
        if not self.options.salvage:
            return lambda _: False
        rows = MergeJoin(self._records(keys.TTL), keys.TTL_PREFIX)
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
            body = self._body(record)
            try:
                decode_hll_value(body)
            except Fault:
                return False  # it is not shown [SALV-1]
            return True

        return is_in_keymap

    def _unreadable(self, kind: str, segment: str, record: Record, body: bytes, fault: Fault) -> Iterator[Blob | Line]:
        """Yield the outputs of an unreadable record with `salvage`; raise the fault without. [SALV-1]"""
        if not self.options.salvage:
            raise fault
        if len(self.unreadable_examples) < MAX_UNREADABLE_EXAMPLES:
            self.unreadable_examples.append(segment)
        # [SALV-7]
        yield Blob((*self._directory, UNREADABLE_DIRECTORY), f"{segment}.{kind}", body)
        offset = cast("int", fault.offset)  # always set for a value of the snapshot
        line = render_unreadable_line(segment, record.storage_key, offset, fault.clause, kind)
        yield Line(self._directory, UNREADABLE_NAME, line)

    # ---- TTL records ----

    def _iter_ttl_records(self) -> Iterator[Blob | Line]:
        """Classify each TTL record. [RTTL-4]"""
        fates = self.counters.ttls
        # [RTTL-8] The row governs the string if there is one, a prefixed one before a bare one. [RSTR-4]
        owners = [(section, self._join(section)) for section in (STRING_SECTION, BARE_SECTION, HLL_SECTION)]
        without_owner = "unclaimed" if self.first_pass.has_collections else "orphan"  # [RTTL-9] [RTTL-10]

        for record in self._records(keys.TTL):
            user_key = record.storage_key[len(keys.TTL_PREFIX) :]
            body = self._body(record)
            try:
                expiry_ms = decode_ttl_value(body, record.body_offset, record.storage_key)
            except Fault as fault:
                yield from self._unreadable(TTL_KIND, encode_segment(user_key), record, body, fault)  # [SALV-3]
                fates["unreadable"] += 1
                continue

            found = [(section, owner) for section, records in owners if (owner := records.find(user_key))]
            if not found:
                # [RTTL-10] [RTTL-12] All are counted; the segments of a few are kept as examples.
                fates[without_owner] += 1
                if without_owner == "orphan" and len(self.orphan_examples) < MAX_ORPHAN_EXAMPLES:
                    self.orphan_examples.append(encode_segment(user_key))
                continue

            section, owner = found[0]
            if not self._wants(section.directory):
                fates["excluded"] += 1  # [COMP-2]
            elif self._is_envelope(section, owner):
                fates["redundant"] += 1  # [RTTL-5]
            else:
                fates["applied"] += 1  # [RTTL-6] [RTTL-7]
                yield Line(self._directory, section.sidecar, render_expiry_line(encode_segment(user_key), expiry_ms))
