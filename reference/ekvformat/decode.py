"""The chapters in a row: from snapshot bytes to a dump. Implements spec chapter FATE.

    snapshot bytes -> entries -> visible records -> decoded values -> outputs
        FILE            VISI        KEYS TYPE       RSTR RHLL RTTL    SEGM KMAP SALV
                                                    RHAS .. RSTM

This is where the chapters meet: which type a user key has, which TTL record
decides about which key, what becomes of what cannot be read. Every such question
is a look into a table, and the answers together are the fate table [FATE-1] [FATE-2].
What comes out is what a client could have read [CONV-1]; keys and payloads stay the
bytes that they are [CONV-10].
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from ekvformat import (
    envelope,
    keys,
    redis_hashes,
    redis_hlls,
    redis_lists,
    redis_sets,
    redis_streams,
    redis_strings,
    redis_ttls,
    redis_zsets,
    salvage,
)
from ekvformat.collections import META_SIZES, Decoded, Parts, meta_of
from ekvformat.completeness import Counters, DumpWarning, warn
from ekvformat.keymap import KEYMAP_NAME, render_keymap_line
from ekvformat.outcomes import Fault
from ekvformat.segments import encode_percent, encode_segment, is_fallback
from ekvformat.snapshot_file import SnapshotFile, decode_snapshot_file, decode_snapshot_name
from ekvformat.tree import HASHES, HLLS, LISTS, SETS, STREAMS, STRINGS, SUFFIXES, ZSETS, database_directory
from ekvformat.user_keys import (
    DELTA,
    ELEMENT,
    LIST_META_SIZES,
    META,
    PACKED,
    VALUE,
    place_of,
    type_of_user_key,
)
from ekvformat.visibility import CANONICAL_ORDER, Record, applied_index_of, visible_records


class Options(NamedTuple):
    """What the caller wants."""

    database: int = 0
    """The database index. [TREE-1]"""
    only: frozenset[str] | None = None
    """The types wanted, of `tree.SELECTABLE`; None for all. [COMP-1]"""
    salvage: bool = False
    """Consent to a dump without the values that cannot be read. [SALV-1]"""
    key: bytes | None = None
    """The one user key wanted; None for all. [COMP-10]"""
    prefix: bytes | None = None
    """How the user keys wanted begin; None for all. [COMP-10]"""


NO_OPTIONS: Final = Options()
"""What a caller gets who asks for nothing."""


class Section(NamedTuple):
    """The records of one type that become blobs."""

    type: str
    decode: Callable[[bytes, int, bytes], envelope.Value]
    """Decodes a body; takes its offset and the storage key."""
    envelope_prefix: bytes | None
    """Begins a value that alone decides the expiry of its key. [ENVL-11]"""
    directory: str
    sidecar: str
    """Where lines of expiries go. [RTTL-13]"""
    kind: str
    """In `unreadable.jsonl`. [SALV-6]"""

    def is_envelope(self, record: Record) -> bool:
        """Return True for an envelope, also one that cannot be read. [RTTL-4]"""
        return self.envelope_prefix is not None and record.body.startswith(self.envelope_prefix)


HLL_SECTION: Final = Section(
    keys.HLL, redis_hlls.decode_hll_value, redis_hlls.ENVELOPE_PREFIX, HLLS, redis_ttls.HLL_TTL_NAME, salvage.HLL_KIND
)
STRING_SECTION: Final = Section(
    keys.STRING, redis_strings.decode_string_value, redis_strings.ENVELOPE_PREFIX,
    STRINGS, redis_ttls.STRINGS_TTL_NAME, salvage.STRING_KIND,
)  # fmt: skip
BARE_SECTION: Final = STRING_SECTION._replace(
    type=keys.BARE, decode=redis_strings.decode_bare_value, envelope_prefix=None
)
PREFIX_OF_TYPE: Final = {
    keys.HLL: keys.HLL_PREFIX,  # [RHLL-1]
    keys.STRING: keys.STRING_PREFIX,  # [RSTR-1]
    keys.BARE: b"",  # [RSTR-2]
    keys.TTL: keys.TTL_PREFIX,  # [RTTL-4]
}
"""Type of which one record is one key, in output order [OUTC-5] = what stands before the user key."""


class CollectionSection(NamedTuple):
    """The collections of one type."""

    type: str
    decode: Callable[[Parts], Decoded]
    render: Callable[[Decoded, int | None], bytes]
    """Renders the blob; takes the expiry, in Unix ms."""
    directory: str
    expiry_end: int
    """Where the field `expiry` of a meta ends, in bytes of the body. [COLL-4]"""


COLLECTION_SECTIONS: Final = {
    keys.HASH: CollectionSection(
        keys.HASH, redis_hashes.decode_hash, redis_hashes.render_hash, HASHES, max(META_SIZES)
    ),
    keys.LIST: CollectionSection(
        keys.LIST, redis_lists.decode_list, redis_lists.render_list, LISTS, max(LIST_META_SIZES)
    ),
    keys.SET: CollectionSection(keys.SET, redis_sets.decode_set, redis_sets.render_set, SETS, max(META_SIZES)),
    keys.ZSET: CollectionSection(keys.ZSET, redis_zsets.decode_zset, redis_zsets.render_zset, ZSETS, max(META_SIZES)),
    keys.STREAM: CollectionSection(
        keys.STREAM, redis_streams.decode_stream, redis_streams.render_stream, STREAMS, redis_streams.EXPIRY_END
    ),
}
"""Type = its collections."""


SECTIONS: Final[dict[str, Section | CollectionSection]] = {
    keys.HLL: HLL_SECTION, keys.STRING: STRING_SECTION, keys.BARE: BARE_SECTION, **COLLECTION_SECTIONS,
}  # fmt: skip
"""Type of a user key = its section."""


class Tables(NamedTuple):
    """All visible records of types with a chapter."""

    records: dict[str, dict[bytes, Record]]
    """Of strings, HLLs and TTLs: type = user key = record, in canonical order. [VISI-17]"""
    collections: dict[bytes, dict[str, Parts]]
    """User key = type = records of a collection; the keys are in canonical order."""
    strays: dict[str, int]
    """Type = records of collections that belong to no user key. [TYPE-2]"""
    types: dict[bytes, str]
    """User key = its type; one that is not here does not exist. [TYPE-4]"""


class Summary(NamedTuple):
    """What a dump says of itself."""

    options: Options
    last_commit_ts: int
    """[FILE-6]"""
    crc32c: int | None
    """What the footer holds; None without one. [FILE-18]"""
    snapshot_index: int | None
    """The applied index that the name of the snapshot gives. [FILE-25]"""
    counters: Counters
    warnings: list[DumpWarning]


class Dump(NamedTuple):
    """What a snapshot becomes: files, each as its path below the output directory and its content."""

    blobs: dict[str, bytes]
    """In output order. [OUTC-5]"""
    sidecars: dict[str, bytes]
    summary: Summary


def decode(data: bytes, name: str = "", options: Options = NO_OPTIONS) -> Dump:
    """Decode a snapshot; `name` is its path, of which only the file name is looked at.

    Raises the fault that OUTC-3 and OUTC-4 name.
    """
    # [OUTC-3] Structure and footer of the whole file, then all entry headers, then
    # values. Nothing has been written when any of this is refused [FILE-21], and
    # salvage changes nothing about the first two [SALV-5].
    snapshot = decode_snapshot_file(data)
    counters = Counters()
    records = visible_records(snapshot.entries, snapshot.last_commit_ts, counters)

    # [OUTC-5] In this order, each in canonical order.
    outputs = Outputs(make_tables(records, counters), counters, options)
    for section in (HLL_SECTION, STRING_SECTION, BARE_SECTION):
        outputs.add_section(section)
    outputs.add_collections()
    outputs.add_ttls()

    index = decode_snapshot_name(name)
    warnings = warnings_of_file(snapshot, index) + warnings_of_records(records, outputs)
    summary = Summary(options, snapshot.last_commit_ts, snapshot.crc32c, index, counters, warnings)
    return Dump(outputs.blobs, {path: b"".join(lines) for path, lines in outputs.sidecars.items()}, summary)


def make_tables(records: list[Record], counters: Counters) -> Tables:
    """Count the visible records by type, and make a table of each type with a chapter. [COMP-7]"""
    tables: dict[str, dict[bytes, Record]] = {type_: {} for type_ in PREFIX_OF_TYPE}
    collections: dict[bytes, dict[str, Parts]] = {}
    strays = dict.fromkeys(keys.COLLECTIONS, 0)
    # [VISI-17] All storage keys of a string, an HLL or a TTL have the same prefix, so this is
    # the canonical order of the user keys too.
    for record in sorted(records, key=lambda record: CANONICAL_ORDER(record.storage_key)):
        type_ = keys.type_of(record.storage_key)
        if type_ in keys.UNDECODED:
            counters.entries["undecoded"] += 1
            counters.undecoded[type_] += 1  # [KEYS-5]
        else:
            counters.entries[type_] += 1
        if type_ in tables:
            user_key = record.storage_key.removeprefix(PREFIX_OF_TYPE[type_])
            tables[type_][user_key] = record
        elif type_ in keys.COLLECTIONS:
            place = place_of(record)
            if place is None:
                strays[type_] += 1
            else:
                parts = collections.setdefault(place.user_key, {}).setdefault(type_, {})
                parts.setdefault(place.kind, {})[place.suffix] = record
    # [VISI-17] Some storage keys have sizes in front, so these have to be sorted; and the
    # records of each kind stand in bytewise order of their suffixes. [COLL-17]
    in_order = {
        user_key: {
            type_: {kind: dict(sorted(group.items())) for kind, group in parts.items()}
            for type_, parts in collections[user_key].items()
        }
        for user_key in sorted(collections, key=CANONICAL_ORDER)
    }
    return Tables(tables, in_order, strays, types_of(tables, collections))


def types_of(tables: dict[str, dict[bytes, Record]], collections: dict[bytes, dict[str, Parts]]) -> dict[bytes, str]:
    """Return the type of each user key that exists. [TYPE-4]"""
    there: dict[bytes, set[tuple[str, str]]] = {}
    for type_ in (keys.STRING, keys.HLL, keys.BARE):
        for user_key in tables[type_]:
            there.setdefault(user_key, set()).add((type_, VALUE))
    for user_key, by_type in collections.items():
        for type_, parts in by_type.items():
            there.setdefault(user_key, set()).update((type_, kind) for kind in parts)
    types = ((user_key, type_of_user_key(kinds)) for user_key, kinds in there.items())
    return {user_key: type_ for user_key, type_ in types if type_ is not None}


class Outputs:
    """The blobs and lines of a dump, added in output order."""

    def __init__(self, tables: Tables, counters: Counters, options: Options) -> None:
        self.tables = tables
        self.counters = counters
        self.options = options
        self.blobs: dict[str, bytes] = {}
        self.sidecars: dict[str, list[bytes]] = {}
        """Path = its lines, each once. A sidecar without a line does not exist. [RTTL-13] [KMAP-4]"""
        self.orphans: list[str] = []
        """Segments of the first TTL records that decide about nothing. [RTTL-11]"""
        self.unreadable: list[str] = []
        """Segments of what cannot be read, one for each line. [SALV-9]"""

    def add_blob(self, directory: str, name: str, content: bytes) -> None:
        """Add a file that holds one payload, one collection or one unreadable body. [TREE-4]"""
        place = f"{database_directory(self.options.database)}/{directory}/{name}{SUFFIXES[directory]}"
        self.blobs[place] = content

    def add_line(self, sidecar: str, line: bytes) -> None:
        """Add a line to a sidecar."""
        self.sidecars.setdefault(f"{database_directory(self.options.database)}/{sidecar}", []).append(line)

    def is_wanted(self, section: Section | CollectionSection, user_key: bytes) -> bool:
        """Return True if the caller wants this type [COMP-1] and this key. [COMP-10]"""
        only, key, prefix = self.options.only, self.options.key, self.options.prefix
        return (
            (only is None or section.directory in only)
            and (key is None or user_key == key)
            and (prefix is None or user_key.startswith(prefix))
        )

    # ---- strings and HLLs ----

    def add_section(self, section: Section) -> None:
        """Add what becomes of all records of a section, and count it. [COMP-8]"""
        fates = self.counters.hlls if section.type == keys.HLL else self.counters.strings
        for user_key, record in self.tables.records[section.type].items():
            # [COMP-2] Not judged either: nobody asked what it holds.
            if not self.is_wanted(section, user_key):
                fates["excluded"] += 1
            # [RSTR-4] [RHLL-4] Also by what cannot be read. [SALV-4]
            elif self.tables.types[user_key] != section.type:
                fates["shadowed"] += 1
            else:
                try:
                    value = section.decode(record.body, record.body_offset, record.storage_key)
                    self.check_ttl_of(section, user_key, record)
                except Fault as fault:
                    self.add_unreadable(section.kind, user_key, record, fault)
                    fates["unreadable"] += 1
                else:
                    self.add_value(section, user_key, value)
                    fates["written"] += 1

    def add_value(self, section: Section, user_key: bytes, value: envelope.Value) -> None:
        """Add what becomes of a value that can be read."""
        # [RSTR-6] [RHLL-2]
        segment = self.add_shown(section.directory, user_key, value.payload)
        # [RSTR-7] [RHLL-3] Lines of envelopes come before those of TTL records. [RTTL-15]
        if value.expiry_ms is not None:
            self.add_line(section.sidecar, redis_ttls.render_expiry_line(segment, value.expiry_ms))

    def add_shown(self, directory: str, user_key: bytes, content: bytes) -> str:
        """Add the blob of a user key; return its segment."""
        segment = encode_segment(user_key)
        self.add_blob(directory, segment, content)
        # [SEGM-9] The key cannot be read from its segment. [KMAP-2] Once: a line of its
        # expiry, which may follow, brings no further one.
        if is_fallback(segment):
            self.add_line(KEYMAP_NAME, render_keymap_line(segment, user_key))
        return segment

    def check_ttl_of(self, section: Section, user_key: bytes, record: Record) -> None:
        """Raise `invalid-value` if a malformed TTL record decides about this record. [SALV-2]

        Nobody knows when such a key ends. Without consent the TTL record itself refuses the
        snapshot, when its turn comes. [OUTC-5]
        """
        # [SALV-3] An envelope decides alone.
        if self.has_malformed_ttl(user_key) and not section.is_envelope(record):
            raise malformed_ttl(record)

    def has_malformed_ttl(self, user_key: bytes) -> bool:
        """Return True if there is consent to do without a malformed TTL record of this user key. [SALV-2]"""
        ttl = self.tables.records[keys.TTL].get(user_key)
        return self.options.salvage and ttl is not None and len(ttl.body) != redis_ttls.TTL_VALUE_SIZE

    def add_unreadable(self, kind: str, user_key: bytes, record: Record, fault: Fault) -> None:
        """Add what becomes of a record that cannot be read; without consent, raise its fault. [SALV-1]"""
        if not self.options.salvage:
            raise fault
        segment = encode_segment(user_key)
        offset = fault.offset or 0  # every fault of a value has one
        line = salvage.render_unreadable_line(segment, record.storage_key, offset, fault.clause, kind)
        self.add_line(salvage.UNREADABLE_NAME, line)  # [SALV-8]
        self.add_blob(salvage.UNREADABLE_DIRECTORY, f"{segment}.{kind}", record.body)  # [SALV-7]
        self.unreadable.append(segment)

    # ---- collections ----

    def add_collections(self) -> None:
        """Add what becomes of all records of collections, and count it. [COMP-12]"""
        for type_, count in self.tables.strays.items():
            is_wanted = self.options.only is None or COLLECTION_SECTIONS[type_].directory in self.options.only
            self.counters.by_type[type_]["orphan" if is_wanted else "excluded"] += count  # [TYPE-6]
        # [OUTC-5] By user key, whatever their types are.
        for user_key, by_type in self.tables.collections.items():
            for type_, parts in by_type.items():
                self.add_parts(COLLECTION_SECTIONS[type_], user_key, parts)

    def add_parts(self, section: CollectionSection, user_key: bytes, parts: Parts) -> None:
        """Add what becomes of the records of one type that a user key has."""
        fates = self.counters.by_type[section.type]
        count = sum(len(group) for group in parts.values())
        type_ = self.tables.types.get(user_key)
        if not self.is_wanted(section, user_key):
            fates["excluded"] += count  # [COMP-2]
        elif type_ is None:
            fates["orphan"] += count  # [TYPE-6]
        elif type_ != section.type:
            fates["shadowed"] += count  # [TYPE-5]
        else:
            # [COLL-7] Streams have no such rule: nobody reads a packed one. [RSTM-7]
            is_shadowed = section.type != keys.STREAM and ELEMENT in parts
            shadowed = len(parts.get(PACKED, {})) if is_shadowed else 0
            fates["shadowed"] += shadowed
            self.add_collection(section, user_key, parts, count - shadowed)

    def add_collection(self, section: CollectionSection, user_key: bytes, parts: Parts, count: int) -> None:
        """Add what becomes of a collection, of which so many records are to be counted."""
        fates = self.counters.by_type[section.type]
        try:
            self.check_ttl_of_collection(section, user_key, parts)
            decoded = section.decode(parts)
        except Fault as fault:
            # [SALV-10] One line, of the record at fault.
            record = next(each for group in parts.values() for each in group.values() if each.storage_key == fault.key)
            self.add_unreadable(section.type, user_key, record, fault)
            fates["unreadable"] += count
        else:
            expiry_ms = self.expiry_of(section, user_key, decoded)
            self.add_shown(section.directory, user_key, section.render(decoded, expiry_ms))
            fates["unread"] += decoded.unread
            fates["written"] += count - decoded.unread
            self.counters.collections[section.type] += 1  # [COMP-13]

    def check_ttl_of_collection(self, section: CollectionSection, user_key: bytes, parts: Parts) -> None:
        """Raise `invalid-value` if a malformed TTL record decides about this collection. [SALV-11]"""
        if self.has_malformed_ttl(user_key) and not self.decides_alone(user_key, section.type):
            in_order = (record for kind in (META, DELTA, ELEMENT, PACKED) for record in parts.get(kind, {}).values())
            raise malformed_ttl(next(in_order))  # [COLL-17]

    def expiry_of(self, section: CollectionSection, user_key: bytes, decoded: Decoded) -> int | None:
        """Return the expiry of a collection in Unix ms, or None."""
        if self.decides_alone(user_key, section.type):
            return decoded.meta.expiry_ms  # [COLL-4]
        # [COLL-5] A malformed TTL record refuses the snapshot when its own turn comes. [OUTC-5]
        ttl = self.tables.records[keys.TTL].get(user_key)
        if ttl is None or len(ttl.body) != redis_ttls.TTL_VALUE_SIZE:
            return None
        return redis_ttls.decode_ttl_value(ttl.body)

    # ---- TTL records ----

    def add_ttls(self) -> None:
        """Add what becomes of all TTL records, and count it. [COMP-8]"""
        fates = self.counters.ttls
        for user_key, record in self.tables.records[keys.TTL].items():
            try:
                expiry_ms = redis_ttls.decode_ttl_value(record.body, record.body_offset, record.storage_key)
            except Fault as fault:
                self.add_unreadable(salvage.TTL_KIND, user_key, record, fault)
                fates["unreadable"] += 1
                continue
            # [RTTL-4] [RTTL-8] Only what the user key is plays a part, not what it shadows.
            type_ = self.tables.types.get(user_key)
            if type_ is None:
                fates["orphan"] += 1  # [RTTL-10]
                # [RTTL-12] Only a few of their keys are kept.
                if len(self.orphans) < redis_ttls.MAX_ORPHAN_EXAMPLES:
                    self.orphans.append(encode_segment(user_key))
            elif not self.is_wanted(SECTIONS[type_], user_key):
                fates["excluded"] += 1  # [COMP-2]
            elif self.decides_alone(user_key, type_):
                fates["redundant"] += 1  # [RTTL-5] [RTTL-16]
            else:
                fates["applied"] += 1
                # [RTTL-6] [RTTL-7] The blob of a collection has its expiry already. [RTTL-17]
                section = SECTIONS[type_]
                if isinstance(section, Section):
                    self.add_line(section.sidecar, redis_ttls.render_expiry_line(encode_segment(user_key), expiry_ms))

    def decides_alone(self, user_key: bytes, type_: str) -> bool:
        """Return True for a user key of whose expiry its own records decide."""
        section = SECTIONS[type_]
        if isinstance(section, Section):
            return section.is_envelope(self.tables.records[type_][user_key])  # [ENVL-11]
        meta = meta_of(self.tables.collections[user_key][type_])
        # A longer body may be that of a meta that cannot be read: it has the field all the same.
        return meta is not None and len(meta.body) >= section.expiry_end  # [COLL-4]


def malformed_ttl(record: Record) -> Fault:
    """Return the fault of a record whose expiry nobody knows. [SALV-2] [SALV-11]"""
    detail = "a malformed TTL record decides about this key"
    return Fault("invalid-value", "RTTL-1", detail, record.body_offset, None, record.storage_key)


# ---- warnings ----


def warnings_of_file(snapshot: SnapshotFile, index: int | None) -> list[DumpWarning]:
    """Return the warnings about the file; `index` is the one in its name."""
    # [FILE-20]
    warnings = warn("no-footer") if snapshot.crc32c is None else []
    # [FILE-26]
    applied_index = applied_index_of(snapshot.entries)
    if index is not None and applied_index is not None and index < applied_index:
        warnings += warn("index-behind")
    return warnings


def warnings_of_records(records: list[Record], outputs: Outputs) -> list[DumpWarning]:
    """Return the warnings about what is not shown; `records` are in the order of the file. [COMP-5]"""
    # [VISI-14]
    warnings = warn("future-version", outputs.counters.entries["future"])
    # [COMP-1] A caller who names the types wanted is not warned of the others.
    if outputs.options.only is None:
        # [KEYS-9]
        unknown = [record.storage_key for record in records if keys.type_of(record.storage_key) == keys.UNKNOWN]
        beginnings = tuple(dict.fromkeys(encode_percent(keys.beginning_of(key)) for key in unknown))
        warnings += warn("unknown-prefix", len(unknown), beginnings[: keys.MAX_BEGINNINGS])
        # [KEYS-6]
        for type_, count in outputs.counters.undecoded.items():
            warnings += warn("undecoded-type", count, (type_,))
    # [RTTL-11]
    warnings += warn("orphan-ttl", outputs.counters.ttls["orphan"], tuple(outputs.orphans))
    # [SALV-9]
    examples = tuple(outputs.unreadable[: salvage.MAX_UNREADABLE_EXAMPLES])
    return warnings + warn("unreadable-value", len(outputs.unreadable), examples)
