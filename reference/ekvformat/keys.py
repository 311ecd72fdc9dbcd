"""Key prefixes and types. Implements spec chapter KEYS.

A storage key is of the type of the longest prefix that it begins with. [KEYS-1] The
tables below are the whole of it:

    type                        what a dump shows of its records
    --------------------------  -------------------------------------------------
    string, hll, bare           a blob
    ttl                         a line of a sidecar, if it decides about a key
    hash .. stream              a collection's blob has a part of it: TYPE says whose
    dynamodb .. sqs             nothing yet: counted by type, with a warning
    internal                    nothing: no client reads them
    unknown                     nothing: nobody knows what they hold

Whatever is not shown is counted and named. [CONV-3] Counts are of records and not of
what a client sees: one table of DynamoDB is many records.

Some prefixes begin others: `!hs|meta|` and `!hs|meta|d|` are of one type, but
`!s3|bucket|gen|` is internal, and nothing is of the type of `!s3|` alone.
"""

from typing import Final

STRING: Final = "string"
"""A Redis string as current servers write it. [RSTR-1]"""
HLL: Final = "hll"
"""A HyperLogLog. [RHLL-1]"""
TTL: Final = "ttl"
"""The expiry of a key whose value has no room for one. [RTTL-4]"""
HASH: Final = "hash"
"""The first of five types of which one key is several records; see `user_keys`. [TYPE-1]"""
LIST: Final = "list"
SET: Final = "set"
ZSET: Final = "zset"
STREAM: Final = "stream"
BARE: Final = "bare"
"""A Redis string as old servers wrote it. [KEYS-3]"""
INTERNAL: Final = "internal"
"""The store's own bookkeeping. [KEYS-4]"""
UNKNOWN: Final = "unknown"
"""A record of a type that this version has never heard of. [KEYS-8]"""

STRING_PREFIX: Final = b"!redis|str|"
"""Before the user key of a prefixed string. [RSTR-1]"""
HLL_PREFIX: Final = b"!redis|hll|"
"""Before the user key of an HLL. [RHLL-1]"""
TTL_PREFIX: Final = b"!redis|ttl|"
"""Before the user key of a TTL record. [RTTL-4]"""
RESERVED_PREFIX: Final = b"!"
"""Begins every storage key but those of bare strings. [KEYS-3]"""

COLLECTIONS: Final = {
    HASH: (b"!hs|meta|d|", b"!hs|meta|", b"!hs|fld|", b"!redis|hash|"),
    LIST: (b"!lst|meta|d|", b"!lst|meta|", b"!lst|itm|", b"!lst|claim|"),
    SET: (b"!st|meta|d|", b"!st|meta|", b"!st|mem|", b"!redis|set|"),
    ZSET: (b"!zs|meta|d|", b"!zs|meta|", b"!zs|mem|", b"!zs|scr|", b"!redis|zset|"),
    STREAM: (b"!stream|meta|", b"!stream|entry|", b"!redis|stream|"),
}
"""Types of which one key is several records. [TYPE-1]

The longer of two prefixes stands first in each line, as a reader would try them.
"""

UNDECODED: Final = {
    "dynamodb": (b"!ddb|meta|table|", b"!ddb|meta|gen|", b"!ddb|item|", b"!ddb|gsi|"),
    "s3": (
        b"!s3|bucket|meta|", b"!s3|obj|head|", b"!s3|upload|meta|", b"!s3|upload|part|",
        b"!s3|blob|", b"!s3|chunkref|", b"!s3|chunkblob|",
    ),
    "sqs": (
        b"!sqs|queue|meta|", b"!sqs|queue|gen|", b"!sqs|queue|seq|", b"!sqs|queue|tombstone|",
        b"!sqs|msg|data|", b"!sqs|msg|vis|", b"!sqs|msg|byage|", b"!sqs|msg|dedup|", b"!sqs|msg|group|",
    ),
}  # fmt: skip
"""All types that have no chapter yet, in the order of the spec's table. [KEYS-5]

Warnings, counters and reasons for a partial dump are in this order.
"""

PREFIXES: Final = COLLECTIONS | UNDECODED | {
    STRING: (STRING_PREFIX,),
    HLL: (HLL_PREFIX,),
    TTL: (TTL_PREFIX,),
    INTERNAL: (
        b"!txn|", b"!dist|", b"!encryption|", b"!s3route|", b"!s3|bucket|gen|", b"!s3|gc|upload|",
        b"!redis|txn-wide-hash|", b"!redis|txn-wide-set|", b"!redis|txn-wide-list|", b"!redis|txn-wide-zset|",
    ),
    # What begins with `!` and with nothing longer.
    UNKNOWN: (RESERVED_PREFIX,),
    # Every key begins with the empty prefix, the empty key too.
    BARE: (b"",),
}  # fmt: skip
"""Type = its prefixes. [KEYS-1]"""
TYPE_OF_PREFIX: Final = {prefix: type_ for type_, prefixes in PREFIXES.items() for prefix in prefixes}
"""The same table the other way around: no prefix belongs to two types."""

BEGINNING_SIZE: Final = 64
"""Most bytes of an unknown key that a warning shows. [KEYS-9]"""
MAX_BEGINNINGS: Final = 16
"""Most beginnings of unknown keys that a warning shows. [KEYS-9]"""


def prefix_of(storage_key: bytes) -> bytes:
    """Return the longest prefix that a storage key begins with. [KEYS-1]

    The encoded key plays no part: a prefix may end inside its version suffix, by
    chance, and that is not a prefix of the storage key. [KEYS-2]
    """
    return max(filter(storage_key.startswith, TYPE_OF_PREFIX), key=len)


def type_of(storage_key: bytes) -> str:
    """Return the type of a storage key. [KEYS-1]"""
    return TYPE_OF_PREFIX[prefix_of(storage_key)]


def beginning_of(storage_key: bytes) -> bytes:
    """Return what a warning shows of a key of the type unknown. [KEYS-9]

    Up to and including the second `|`, which is where the prefixes of known types
    end, if it is among the first 64 bytes.
    """
    shown = storage_key[:BEGINNING_SIZE]
    parts = shown.split(b"|")
    return b"|".join((*parts[:2], b"")) if len(parts) > 2 else shown
