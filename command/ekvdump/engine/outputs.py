"""The outputs of one run, in output order [OUTC-4]: blobs, and rows for the sidecars.

The second pass reads the sections of the snapshot; this module decodes the records, decides
which of them are shown, and knows nothing of files. Sections are joined by key without
holding either of them [RTTL-7] [RSTR-13].
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, cast

from ekvdump.engine.first_pass import FirstPass, iter_section
from ekvdump.engine.merge_join import MergeJoin
from ekvdump.engine.source import Source
from ekvdump.engine.versions import Record
from ekvdump.filesystem.directories import HAS_HANDLES, Parts
from ekvdump.format import keys
from ekvdump.format.keymap import KEYMAP_NAME, render_keymap_line
from ekvdump.format.outcomes import InvalidValue
from ekvdump.format.redis_hlls import ENVELOPE_PREFIX as HLL_ENVELOPE
from ekvdump.format.redis_hlls import decode_hll_value
from ekvdump.format.redis_strings import ENVELOPE_PREFIX as STRING_ENVELOPE
from ekvdump.format.redis_strings import Value, decode_bare_value, decode_string_value
from ekvdump.format.redis_ttls import (
    HLL_TTL_NAME,
    MAX_ORPHAN_EXAMPLES,
    STRINGS_TTL_NAME,
    TTL_VALUE_SIZE,
    decode_ttl_value,
    render_expiry_row,
)
from ekvdump.format.salvage import (
    HLL_KIND,
    MAX_UNREADABLE_EXAMPLES,
    STRING_KIND,
    TTL_KIND,
    UNREADABLE_FOLDER,
    UNREADABLE_NAME,
    render_unreadable_line,
)
from ekvdump.format.segments import encode_segment, is_fallback

STRINGS: Final = "strings"
HLLS: Final = "hll"
SELECTABLE: Final = (STRINGS, HLLS)
"""The kinds of blobs that a caller can select, and the names of their directories. [OUTC-13]"""


class Options(NamedTuple):
    """The options of a run."""

    database: int = 0
    """The database index. [TREE-1]"""
    only: frozenset[str] | None = None
    """The selected kinds, of `SELECTABLE`; None for all. [OUTC-13]"""
    salvage: bool = False
    """List unreadable values instead of refusing the snapshot. [SALV-1]"""
    into_existing: bool = False
    """Accept an output directory that is not empty. [TREE-33]"""
    sync: bool = True
    """Flush everything to disk before the seal. [TREE-21]"""
    handles: bool = HAS_HANDLES
    """Write the tree by directory handles. [TREE-38]"""

    def wants(self, selectable: str) -> bool:
        """Return True if a kind is selected. [OUTC-13]"""
        return self.only is None or selectable in self.only


class Blob(NamedTuple):
    """An output: one payload, for a file of its own."""

    directory: Parts
    segment: str
    payload: bytes


class Row(NamedTuple):
    """An output: one line of a sidecar."""

    directory: Parts
    sidecar: str
    line: bytes


def redis_directory(database: int) -> Parts:
    """Return the directory of one database. [TREE-1] [TREE-4] [TREE-28]"""
    return ("redis", f"db_{max(0, database)}")


class Section(NamedTuple):
    """The records of one type that become blobs."""

    type: str
    prefix: bytes
    """Precedes the user key in the storage key. [RSTR-1] [RHLL-1] [RSTR-12]"""
    directory: str
    """One of `SELECTABLE`."""
    sidecar: str
    kind: str
    """In `unreadable.jsonl`. [SALV-3]"""
    decode: Callable[[bytes, int, bytes], Value]
    envelope: bytes | None
    """Begins a value that alone determines its expiry. [RSTR-10] [RHLL-10]"""


HLL_SECTION: Final = Section(
    keys.HLL, keys.HLL_PREFIX, HLLS, HLL_TTL_NAME, HLL_KIND, decode_hll_value, HLL_ENVELOPE
)  # fmt: skip
STRING_SECTION: Final = Section(
    keys.STRING, keys.STRING_PREFIX, STRINGS, STRINGS_TTL_NAME, STRING_KIND, decode_string_value, STRING_ENVELOPE
)
BARE_SECTION: Final = Section(
    keys.BARE, b"", STRINGS, STRINGS_TTL_NAME, STRING_KIND, decode_bare_value, None
)  # fmt: skip


class Outputs:
    """The outputs of one run, in output order, with the counters that are updated on the way."""

    def __init__(self, source: Source, found: FirstPass, options: Options) -> None:
        self._source = source
        self._first_pass = found
        self._options = options
        self._directory: Parts = redis_directory(options.database)
        self.counters = found.counters
        self.orphan_examples: list[str] = []
        """Segments of orphans. [RTTL-15]"""
        self.unreadable_examples: list[str] = []
        """Segments of unreadable records. [SALV-6]"""

    def __iter__(self) -> Iterator[Blob | Row]:
        for section in (HLL_SECTION, STRING_SECTION, BARE_SECTION):
            yield from self._iter_section(section)
        yield from self._iter_ttl_rows()

    # ---- records ----

    def _records(self, type_: str) -> Iterator[Record]:
        return iter_section(self._source, self._first_pass, type_)

    def _join(self, section: Section) -> MergeJoin:
        return MergeJoin(self._records(section.type), section.prefix)

    def _body(self, record: Record) -> bytes:
        return self._source.read(record.body_offset, record.body_size)

    def _is_envelope(self, section: Section, record: Record) -> bool:
        if section.envelope is None:
            return False
        size = min(len(section.envelope), record.body_size)
        return self._source.read(record.body_offset, size) == section.envelope

    # ---- strings and HLLs ----

    def _iter_section(self, section: Section) -> Iterator[Blob | Row]:
        counters = self.counters
        fates = counters.hlls if section is HLL_SECTION else counters.strings
        # [OUTC-17]
        if not self._options.wants(section.directory):
            fates["excluded"] += counters.entries[section.type]
            return
        shadowing = self._join(STRING_SECTION) if section is BARE_SECTION else None
        is_damaged = self._damage_by_rows(section)
        is_in_keymap = self._lines_of_hlls(section)

        for record in self._records(section.type):
            user_key = record.storage_key[len(section.prefix) :]
            # [RSTR-13] [SALV-8]
            if shadowing is not None and shadowing.find(user_key) is not None:
                fates["shadowed"] += 1
                continue
            body = self._body(record)
            segment = encode_segment(user_key)
            try:
                value = section.decode(body, record.body_offset, record.storage_key)
                if is_damaged(user_key) and not (section.envelope and body.startswith(section.envelope)):
                    detail = "a TTL row of another size decides about this key"
                    raise InvalidValue("RTTL-1", detail, record.body_offset, None, record.storage_key)
            except InvalidValue as fault:
                yield from self._unreadable(section.kind, segment, record, body, fault)
                fates["unreadable"] += 1
                continue
            fates["written"] += 1
            # [RSTR-15] [RHLL-12]
            yield Blob((*self._directory, section.directory), segment, value.payload)
            # [SEGM-9] [KMAP-2]
            if is_fallback(segment) and not is_in_keymap(user_key):
                yield Row(self._directory, KEYMAP_NAME, render_keymap_line(segment, user_key))
            # [RSTR-16] [RHLL-13] [RTTL-13]
            if value.expiry_ms is not None:
                yield Row(self._directory, section.sidecar, render_expiry_row(segment, value.expiry_ms))
            del body, value  # at most two copies of a payload are held, and none while the next is read

    def _damage_by_rows(self, section: Section) -> Callable[[bytes], bool]:
        """Return a predicate: does a malformed TTL row govern this user key? [SALV-2]

        Without `salvage` the answer is not needed: the row itself raises the fault later.
        """
        if not self._options.salvage:
            return lambda _: False
        rows = MergeJoin(self._records(keys.TTL), keys.TTL_PREFIX)
        # [RTTL-7] If the key has a string too, the row governs the string.
        others = [self._join(STRING_SECTION), self._join(BARE_SECTION)] if section is HLL_SECTION else []

        def is_damaged(user_key: bytes) -> bool:
            row = rows.find(user_key)
            if row is None or row.body_size == TTL_VALUE_SIZE:
                return False
            return all(other.find(user_key) is None for other in others)

        return is_damaged

    def _lines_of_hlls(self, section: Section) -> Callable[[bytes], bool]:
        """Return a predicate: does this user key have its KEYMAP line already, as an HLL? [KMAP-2] [KMAP-3]"""
        if section is HLL_SECTION or not self._options.wants(HLLS):
            return lambda _: False
        hlls = self._join(HLL_SECTION)

        def is_in_keymap(user_key: bytes) -> bool:
            record = hlls.find(user_key)
            if record is None:
                return False
            try:
                decode_hll_value(self._body(record))
            except InvalidValue:
                return False  # it is not shown [SALV-1]
            return True

        return is_in_keymap

    def _unreadable(
        self, kind: str, segment: str, record: Record, body: bytes, fault: InvalidValue
    ) -> Iterator[Blob | Row]:
        """Yield the outputs of an unreadable record with `salvage`; raise the fault without. [SALV-1]"""
        if not self._options.salvage:
            raise fault
        if len(self.unreadable_examples) < MAX_UNREADABLE_EXAMPLES:
            self.unreadable_examples.append(segment)
        # [SALV-4]
        yield Blob((*self._directory, UNREADABLE_FOLDER), f"{segment}.{kind}", body)
        offset = cast("int", fault.offset)  # always set for a value of the snapshot
        line = render_unreadable_line(segment, record.storage_key, offset, fault.clause, kind)
        yield Row(self._directory, UNREADABLE_NAME, line)

    # ---- TTL rows ----

    def _iter_ttl_rows(self) -> Iterator[Blob | Row]:
        """Classify each TTL row. [RTTL-14]"""
        fates = self.counters.ttls
        # [RTTL-7] The row governs the string if there is one, a prefixed one before a bare one. [RSTR-13]
        owners = [(section, self._join(section)) for section in (STRING_SECTION, BARE_SECTION, HLL_SECTION)]
        without_owner = "unclaimed" if self._first_pass.has_collections else "orphan"  # [RTTL-8] [RTTL-9]

        for record in self._records(keys.TTL):
            user_key = record.storage_key[len(keys.TTL_PREFIX) :]
            body = self._body(record)
            try:
                expiry_ms = decode_ttl_value(body, record.body_offset, record.storage_key)
            except InvalidValue as fault:
                yield from self._unreadable(TTL_KIND, encode_segment(user_key), record, body, fault)  # [SALV-7]
                fates["unreadable"] += 1
                continue

            found = [(section, owner) for section, records in owners if (owner := records.find(user_key))]
            if not found:
                # [RTTL-9] [RTTL-10] All are counted; the segments of a few are kept as examples.
                fates[without_owner] += 1
                if without_owner == "orphan" and len(self.orphan_examples) < MAX_ORPHAN_EXAMPLES:
                    self.orphan_examples.append(encode_segment(user_key))
                continue

            section, owner = found[0]
            if not self._options.wants(section.directory):
                fates["excluded"] += 1  # [OUTC-17]
            elif self._is_envelope(section, owner):
                fates["redundant"] += 1  # [RTTL-4]
            else:
                fates["applied"] += 1  # [RTTL-5] [RTTL-6]
                yield Row(self._directory, section.sidecar, render_expiry_row(encode_segment(user_key), expiry_ms))
