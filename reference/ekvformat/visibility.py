"""From entries to visible records. Implements spec chapter VISI.

    encoded key                               encoded value
    size  field           value               size  field      value
    ----  --------------  ----------------    ----  ---------  ------------------------
       -  storage key     bytes                  1  flags      u8, see below
       8  version suffix  u64_be NOT              8  expire_at  u64_le, the store's clock
                          commit timestamp       -  body       bytes

    flags: bit 0 tombstone; bits 1-2 encryption state; bits 3-7 reserved

For example, with a last commit of 30, in file order:

    storage key  commit timestamp  value       what it is
    -----------  ----------------  ----------  ----------------------------------
    `a`                        30  `new`       the record of `a`
    `a`                        10  tombstone   history
    `b`                        31  `late`      future: hides nothing
    `b`                         5  tombstone   `b` does not exist

The rule this file lives by: of each storage key the newest version that a client
could have read counts, and no other. With all versions in memory that takes one
table. The chapter also says how a decoder with bounded memory comes to the same
records in one pass [VISI-18] [VISI-19] [VISI-20] [VISI-21]; the command does it so.
"""

from collections.abc import Iterable, Sequence
from functools import cmp_to_key
from typing import Final, NamedTuple

from ekvformat.completeness import Counters
from ekvformat.conventions import Cursor
from ekvformat.outcomes import Fault
from ekvformat.snapshot_file import Entry

VERSION_SUFFIX_SIZE: Final = 8
"""Size of NOT commit timestamp, in bytes. [VISI-1]"""
ALL_ONES: Final = 0xFFFF_FFFF_FFFF_FFFF
"""NOT x is x XOR this, in 64 bits. [VISI-1]"""
VALUE_HEADER_SIZE: Final = 9
"""Size of flags and expire_at, in bytes. [VISI-2]"""
TOMBSTONE: Final = 0b0000_0001
"""Flag bit: the key is deleted. [VISI-12]"""
ENCRYPTION_STATE: Final = 0b0000_0110
"""Flag bits of the encryption state. [VISI-4]"""
CLEAR: Final = 0b0000_0000
"""Encryption state 00."""
ENCRYPTED: Final = 0b0000_0010
"""Encryption state 01. [VISI-5]"""
RESERVED_FLAGS: Final = 0b1111_1000
"""Flag bits that have no meaning. [VISI-3]"""

APPLIED_INDEX_KEY: Final = b"_meta_applied_index"
"""The entry with the last index that wrote data. [VISI-9]"""
META_KEYS: Final = (
    b"_meta_last_commit_ts", b"_meta_min_retained_ts", b"_meta_pending_min_retained_ts", APPLIED_INDEX_KEY
)  # fmt: skip
"""Keys of operational entries. [VISI-7]"""
META_VALUE_SIZE: Final = 8
"""Size of their values, in bytes. [VISI-7]"""
WRITERS_PREFIX: Final = b"!encryption|writers|"
"""Begins the key of an operational entry. [VISI-8]"""
WRITERS_BAR: Final = b"|"
"""Separates the four from the two bytes behind the prefix. [VISI-8]"""
WRITERS_ID_SIZES: Final = (4, 2)
"""Sizes of the parts of a node's id before and behind the bar, in bytes. [VISI-8]"""
WRITERS_VALUE_SIZE: Final = 12
"""Size of its value, in bytes. [VISI-8]"""


class Version(NamedTuple):
    """One version of a storage key."""

    storage_key: bytes
    """The encoded key without its version suffix. [VISI-1]"""
    commit_ts: int
    """When it was written, in the store's clock."""
    is_tombstone: bool
    """Whether it says that the key is deleted. [VISI-12]"""
    expire_at: int
    """When it ends, in the store's clock; 0 for never. [VISI-13]"""
    body: bytes
    """The encoded value without its header. [VISI-2]"""
    body_offset: int
    """Where the body is in the snapshot, in bytes; faults of values need it."""


class Record(NamedTuple):
    """What is visible of one storage key: the version that counts."""

    storage_key: bytes
    body: bytes
    body_offset: int
    """Where the body is in the snapshot, in bytes."""


def is_operational(entry: Entry) -> bool:
    """Return True for one of the node's own entries, without version suffix and value header.

    What looks like one, but for the size of its value, is an ordinary entry. [VISI-10]
    """
    # [VISI-7]
    if len(entry.value) == META_VALUE_SIZE and entry.key in META_KEYS:
        return True

    # [VISI-8] The id of a node may be any bytes, `|` included, so the bar is
    # the one at its place, and not the last or the first one.
    if len(entry.value) != WRITERS_VALUE_SIZE:
        return False
    before, behind = WRITERS_ID_SIZES
    cursor = Cursor(entry.key, "too-short")
    has_size = cursor.skip(WRITERS_PREFIX) and cursor.left == before + len(WRITERS_BAR) + behind
    return has_size and cursor.peek(before + len(WRITERS_BAR)).endswith(WRITERS_BAR)


def applied_index_of(entries: Iterable[Entry]) -> int | None:
    """Return what the file's own `_meta_applied_index` entry says, or None. [VISI-9]

    It is the last index that wrote data, so the one in the file's name is usually a
    little ahead of it; behind it is worth a warning. [FILE-26]
    """
    for entry in entries:
        if entry.key == APPLIED_INDEX_KEY and is_operational(entry):
            return Cursor(entry.value, "too-short").u64_le("applied index", "VISI-9")
    return None


def decode_version(entry: Entry) -> Version:
    """Decode the headers of an entry that is not operational.

    Raises `too-short`, `reserved-bits` or `encrypted`. [VISI-6]
    """
    # [VISI-1] The suffix is inverted, so that newer versions sort first.
    key_cursor = Cursor(entry.key, "too-short", entry.key_offset, entry.key)
    storage_key = key_cursor.take_all_but(VERSION_SUFFIX_SIZE, "version suffix", "VISI-1")
    commit_ts = key_cursor.u64_be("version suffix", "VISI-1") ^ ALL_ONES

    # [VISI-2] The two fields are one header: a value that is cut in either is cut at its start.
    cursor = Cursor(entry.value, "too-short", entry.value_offset, storage_key)
    header = Cursor(cursor.take(VALUE_HEADER_SIZE, "value header", "VISI-2"), "too-short")
    flags = header.u8("flags", "VISI-2")
    expire_at = header.u64_le("expire_at", "VISI-2")

    check_flags(flags, entry.value_offset, storage_key)
    body_offset = cursor.offset
    return Version(storage_key, commit_ts, bool(flags & TOMBSTONE), expire_at, cursor.rest(), body_offset)


def check_flags(flags: int, offset: int, storage_key: bytes) -> None:
    """Raise `reserved-bits` or `encrypted` for flags that this version cannot read.

    A tombstone is judged like every other version: a healthy node never writes one
    that is encrypted. [VISI-6]
    """
    # [VISI-3]
    if flags & RESERVED_FLAGS:
        raise Fault("reserved-bits", "VISI-3", f"reserved flags: {flags:08b}", offset, None, storage_key)
    state = flags & ENCRYPTION_STATE
    # [VISI-4] States 10 and 11.
    if state not in (CLEAR, ENCRYPTED):
        raise Fault("reserved-bits", "VISI-4", f"reserved encryption state: {flags:08b}", offset, None, storage_key)
    # [VISI-5] There is no key ring here.
    if state == ENCRYPTED:
        raise Fault("encrypted", "VISI-5", "the value is encrypted", offset, None, storage_key)


def visible_records(entries: Sequence[Entry], last_commit_ts: int, counters: Counters) -> list[Record]:
    """Return the visible records, in the order in which their entries stand in the file.

    Counts every entry that is not visible. [COMP-7] A server's own point lookup can
    miss a key whose newest version comes behind an entry of a longer key that looks
    like a version of it. Such a key is committed data, and it is here. [VISI-16]
    """
    # [VISI-9] Operational entries are not data. [VISI-6] All headers are judged before
    # any version is looked at: history and tombstones have to be sound too.
    data = [entry for entry in entries if not is_operational(entry)]
    counters.entries["operational"] = len(entries) - len(data)
    versions = [decode_version(entry) for entry in data]

    records: list[Record] = []
    for version in newest_versions(versions, last_commit_ts, counters):
        # [VISI-12] A tombstone hides all older versions.
        if version.is_tombstone:
            counters.entries["deleted"] += 1
        # [VISI-13] This is the store's own field, in the store's clock: 0 means none
        # here. A user's expiry stands in the body and is data. [CONV-2]
        elif 0 < version.expire_at <= last_commit_ts:
            counters.entries["expired"] += 1
        else:
            records.append(Record(version.storage_key, version.body, version.body_offset))
    return records


def newest_versions(versions: Iterable[Version], last_commit_ts: int, counters: Counters) -> list[Version]:
    """Return of each storage key the version that counts; count all others. [VISI-11]

    Versions belong together by their storage key, wherever they stand in the file:
    entries of another key may stand between them. [VISI-15]
    """
    newest: dict[bytes, Version] = {}
    for version in versions:
        # [VISI-14] It hides nothing: no client could have read it.
        if version.commit_ts > last_commit_ts:
            counters.entries["future"] += 1
        # Entries ascend [FILE-16] and the version suffix is inverted [VISI-1], so the
        # first version that is met of a key is its newest.
        elif version.storage_key in newest:
            counters.entries["history"] += 1
        else:
            newest[version.storage_key] = version
    return list(newest.values())


def compare_keys(key: bytes, other: bytes) -> int:
    """Compare two different keys in canonical order; negative if `key` comes first. [VISI-17]

    Bytewise, but a key comes after every longer key that begins with it, as if its
    end stood above every byte. Unlike the order of the file this does not depend on
    timestamps, so it is the same in every replica's snapshot.
    """
    if key.startswith(other):
        return -1
    if other.startswith(key):
        return 1
    return -1 if key < other else 1


CANONICAL_ORDER: Final = cmp_to_key(compare_keys)
"""Sorts keys into canonical order. [VISI-17]"""
