"""The chapters in a row: from snapshot bytes to a dump. Implements spec chapter FATE.

    snapshot bytes -> entries -> visible records -> decoded values -> outputs
        FILE            VISI        KEYS            RSTR RHLL RTTL    SEGM KMAP SALV

This is where the chapters meet: which record shadows another, which TTL record
decides about which key, what becomes of what cannot be read. Every such question
is a look into a table of all records of one type, and the answers together are the
fate table [FATE-1] [FATE-2]. What comes out is what a client could have read [CONV-1];
keys and payloads stay the bytes that they are [CONV-10].
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from ekvformat import envelope, keys, redis_hlls, redis_strings, redis_ttls, salvage
from ekvformat.completeness import Counters, DumpWarning, warn
from ekvformat.keymap import KEYMAP_NAME, render_keymap_line
from ekvformat.outcomes import Fault
from ekvformat.segments import encode_percent, encode_segment, is_fallback
from ekvformat.snapshot_file import SnapshotFile, decode_snapshot_file, decode_snapshot_name
from ekvformat.tree import HLLS, STRINGS, database_directory
from ekvformat.visibility import CANONICAL_ORDER, Record, applied_index_of, visible_records


class Options(NamedTuple):
    """What the caller wants."""

    database: int = 0
    """The database index. [TREE-1]"""
    only: frozenset[str] | None = None
    """The types wanted, `STRINGS` or `HLLS` or both; None for all. [COMP-1]"""
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
"""Type with a chapter, in output order [OUTC-5] = what its storage keys have before the user key."""

Tables = dict[str, dict[bytes, Record]]
"""Type = user key = record, in canonical order. [VISI-17]"""


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
    outputs.add_ttls()

    index = decode_snapshot_name(name)
    warnings = warnings_of_file(snapshot, index) + warnings_of_records(records, outputs)
    summary = Summary(options, snapshot.last_commit_ts, snapshot.crc32c, index, counters, warnings)
    return Dump(outputs.blobs, {path: b"".join(lines) for path, lines in outputs.sidecars.items()}, summary)


def make_tables(records: list[Record], counters: Counters) -> Tables:
    """Count the visible records by type, and make a table of each type with a chapter. [COMP-7]"""
    tables: Tables = {type_: {} for type_ in PREFIX_OF_TYPE}
    # [VISI-17] All storage keys of a type have the same prefix, so this is the
    # canonical order of the user keys too.
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
    return tables


class Outputs:
    """The blobs and lines of a dump, added in output order."""

    def __init__(self, tables: Tables, counters: Counters, options: Options) -> None:
        self.tables = tables
        self.counters = counters
        self.options = options
        self.blobs: dict[str, bytes] = {}
        self.sidecars: dict[str, dict[bytes, None]] = {}
        """Path = its lines, each once. A sidecar without a line does not exist. [RTTL-13] [KMAP-4]"""
        self.orphans: list[str] = []
        """Segments of the first TTL records that decide about nothing. [RTTL-11]"""
        self.unreadable: list[str] = []
        """Segments of the first unreadable records. [SALV-9]"""

    def add_blob(self, directory: str, name: str, content: bytes) -> None:
        """Add a file that holds one payload. [TREE-4]"""
        self.blobs[f"{database_directory(self.options.database)}/{directory}/{name}.bin"] = content

    def add_line(self, sidecar: str, line: bytes) -> None:
        """Add a line to a sidecar, once. [KMAP-2]"""
        # A KEYMAP line may come twice, for a key that is shown as an HLL and as a string; the
        # first place is the one that counts. [KMAP-3]
        self.sidecars.setdefault(f"{database_directory(self.options.database)}/{sidecar}", {})[line] = None

    def is_wanted(self, section: Section, user_key: bytes) -> bool:
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
        for user_key, record in self.tables[section.type].items():
            # [COMP-2] Not judged either: nobody asked what it holds.
            if not self.is_wanted(section, user_key):
                fates["excluded"] += 1
            # [RSTR-4] Also by a string that cannot be read. [SALV-4]
            elif section.type == keys.BARE and user_key in self.tables[keys.STRING]:
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
        segment = encode_segment(user_key)
        # [RSTR-6] [RHLL-2]
        self.add_blob(section.directory, segment, value.payload)
        # [SEGM-9] The key cannot be read from its segment.
        if is_fallback(segment):
            self.add_line(KEYMAP_NAME, render_keymap_line(segment, user_key))
        # [RSTR-7] [RHLL-3] Lines of envelopes come before those of TTL records. [RTTL-15]
        if value.expiry_ms is not None:
            self.add_line(section.sidecar, redis_ttls.render_expiry_line(segment, value.expiry_ms))

    def check_ttl_of(self, section: Section, user_key: bytes, record: Record) -> None:
        """Raise `invalid-value` if a malformed TTL record decides about this record. [SALV-2]

        Nobody knows when such a key ends. Without consent the TTL record itself refuses the
        snapshot, when its turn comes. [OUTC-5]
        """
        ttl = self.tables[keys.TTL].get(user_key)
        if not self.options.salvage or ttl is None or len(ttl.body) == redis_ttls.TTL_VALUE_SIZE:
            return
        # [SALV-3] An envelope decides alone; and beside a string the TTL record is not the HLL's. [RTTL-8]
        if self.owner_of(user_key) == (section, record) and not section.is_envelope(record):
            detail = "a malformed TTL record decides about this key"
            raise Fault("invalid-value", "RTTL-1", detail, record.body_offset, None, record.storage_key)

    def add_unreadable(self, kind: str, user_key: bytes, record: Record, fault: Fault) -> None:
        """Add what becomes of a record that cannot be read; without consent, raise its fault. [SALV-1]"""
        if not self.options.salvage:
            raise fault
        segment = encode_segment(user_key)
        offset = fault.offset or 0  # every fault of a value has one
        line = salvage.render_unreadable_line(segment, record.storage_key, offset, fault.clause, kind)
        self.add_line(salvage.UNREADABLE_NAME, line)  # [SALV-8]
        self.add_blob(salvage.UNREADABLE_DIRECTORY, f"{segment}.{kind}", record.body)  # [SALV-7]
        if len(self.unreadable) < salvage.MAX_UNREADABLE_EXAMPLES:
            self.unreadable.append(segment)

    # ---- TTL records ----

    def add_ttls(self) -> None:
        """Add what becomes of all TTL records, and count it. [COMP-8]"""
        fates = self.counters.ttls
        for user_key, record in self.tables[keys.TTL].items():
            try:
                expiry_ms = redis_ttls.decode_ttl_value(record.body, record.body_offset, record.storage_key)
            except Fault as fault:
                self.add_unreadable(salvage.TTL_KIND, user_key, record, fault)
                fates["unreadable"] += 1
                continue
            owner = self.owner_of(user_key)
            # [RTTL-9] [RTTL-10]
            if owner is None:
                self.add_row_without_owner(user_key)
                continue
            section, owner_record = owner
            if not self.is_wanted(section, user_key):
                fates["excluded"] += 1  # [COMP-2]
            elif section.is_envelope(owner_record):
                fates["redundant"] += 1  # [RTTL-5]
            else:
                fates["applied"] += 1  # [RTTL-6] [RTTL-7]
                self.add_line(section.sidecar, redis_ttls.render_expiry_line(encode_segment(user_key), expiry_ms))

    def owner_of(self, user_key: bytes) -> tuple[Section, Record] | None:
        """Return the record that a TTL record of this key decides about, or None. [RTTL-4]"""
        # [RTTL-8] A string before an HLL, and a prefixed string before the bare one
        # that it shadows.
        for section in (STRING_SECTION, BARE_SECTION, HLL_SECTION):
            if user_key in self.tables[section.type]:
                return section, self.tables[section.type][user_key]
        return None

    def add_row_without_owner(self, user_key: bytes) -> None:
        """Count a TTL record that decides about no string and no HLL."""
        # [RTTL-9] It may belong to a collection, whatever types are wanted. [COMP-2]
        if any(self.counters.undecoded[type_] for type_ in keys.COLLECTIONS):
            self.counters.ttls["unclaimed"] += 1
        else:
            # [RTTL-12] Only a few of their keys are kept.
            self.counters.ttls["orphan"] += 1
            if len(self.orphans) < redis_ttls.MAX_ORPHAN_EXAMPLES:
                self.orphans.append(encode_segment(user_key))


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
    return warnings + warn("unreadable-value", outputs.counters.unreadable, tuple(outputs.unreadable))
