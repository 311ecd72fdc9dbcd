"""Key prefixes and types. Implements spec chapter KEYS.

The table below is the whole of it. A type is found by the longest prefix of the
storage key; seen from the sorted keys, every prefix is an interval, a longer
prefix an interval inside it, so one look into the sorted bounds is enough.
"""

from bisect import bisect_right
from typing import Final

STRING: Final = "string"
HLL: Final = "hll"
TTL: Final = "ttl"
BARE: Final = "bare"
INTERNAL: Final = "internal"
UNKNOWN: Final = "unknown"

STRING_PREFIX: Final = b"!redis|str|"
HLL_PREFIX: Final = b"!redis|hll|"
TTL_PREFIX: Final = b"!redis|ttl|"
RESERVED_PREFIX: Final = b"!"
"""Begins every key that is no bare string. [KEYS-5]"""

SHOWN: Final = (HLL, STRING, BARE, TTL)
"""Types with a chapter, in output order. [OUTC-4]"""

COLLECTIONS: Final = {
    "hash": (b"!hs|meta|d|", b"!hs|meta|", b"!hs|fld|", b"!redis|hash|"),
    "list": (b"!lst|meta|d|", b"!lst|meta|", b"!lst|itm|", b"!lst|claim|"),
    "set": (b"!st|meta|d|", b"!st|meta|", b"!st|mem|", b"!redis|set|"),
    "zset": (b"!zs|meta|d|", b"!zs|meta|", b"!zs|mem|", b"!zs|scr|", b"!redis|zset|"),
    "stream": (b"!stream|meta|", b"!stream|entry|", b"!redis|stream|"),
}
"""Redis types without a chapter yet. A TTL row can belong to one of them. [RTTL-8]"""

UNDECODED: Final = COLLECTIONS | {
    "dynamodb": (b"!ddb|meta|table|", b"!ddb|meta|gen|", b"!ddb|item|", b"!ddb|gsi|"),
    "s3": (
        b"!s3|bucket|meta|",
        b"!s3|obj|head|",
        b"!s3|upload|meta|",
        b"!s3|upload|part|",
        b"!s3|blob|",
        b"!s3|chunkref|",
        b"!s3|chunkblob|",
    ),
    "sqs": (
        b"!sqs|queue|meta|",
        b"!sqs|queue|gen|",
        b"!sqs|queue|seq|",
        b"!sqs|queue|tombstone|",
        b"!sqs|msg|data|",
        b"!sqs|msg|vis|",
        b"!sqs|msg|byage|",
        b"!sqs|msg|dedup|",
        b"!sqs|msg|group|",
    ),
}
"""All types without a chapter yet, in the order of the spec's table. [KEYS-7]"""

PREFIXES: Final = UNDECODED | {
    STRING: (STRING_PREFIX,),
    HLL: (HLL_PREFIX,),
    TTL: (TTL_PREFIX,),
    # [KEYS-6]
    INTERNAL: (
        b"!txn|",
        b"!dist|",
        b"!encryption|",
        b"!s3route|",
        b"!s3|bucket|gen|",
        b"!s3|gc|upload|",
        b"!redis|txn-wide-hash|",
        b"!redis|txn-wide-set|",
        b"!redis|txn-wide-list|",
        b"!redis|txn-wide-zset|",
    ),
    # [KEYS-3] What begins with `!` and nothing longer.
    UNKNOWN: (RESERVED_PREFIX,),
}
"""Type = its prefixes. [KEYS-1]"""

BEGINNING_LIMIT: Final = 64
"""Bytes of an unknown key that a warning shows at most. [KEYS-9]"""
MAX_BEGINNINGS: Final = 16
"""Distinct beginnings that a warning shows at most. [KEYS-9]"""


def _after(prefix: bytes) -> bytes:
    """Return the least key above all keys with this prefix. No prefix of the table ends in FF."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


TYPE_OF_PREFIX: Final = {prefix: type_ for type_, prefixes in PREFIXES.items() for prefix in prefixes} | {b"": BARE}
"""Prefix = its type; what begins with none of the others begins with the empty one. [KEYS-5]"""
BOUNDS: Final = sorted({*TYPE_OF_PREFIX, *map(_after, filter(None, TYPE_OF_PREFIX))})
"""Where, in the order of keys, another prefix can begin or end."""
BOUND_PREFIXES: Final = [
    max((prefix for prefix in TYPE_OF_PREFIX if bound.startswith(prefix)), key=len) for bound in BOUNDS
]
"""The longest prefix of all keys from each bound to the next. [KEYS-1]"""
BOUND_TYPES: Final = [TYPE_OF_PREFIX[prefix] for prefix in BOUND_PREFIXES]
"""The type of these keys."""


def type_of(storage_key: bytes) -> str:
    """Return the type of a storage key. [KEYS-1] [KEYS-2]"""
    return BOUND_TYPES[bisect_right(BOUNDS, storage_key) - 1]


def prefix_of(storage_key: bytes) -> bytes:
    """Return the longest prefix of the table that a storage key begins with; `!` or nothing if it has none."""
    return BOUND_PREFIXES[bisect_right(BOUNDS, storage_key) - 1]


def beginning_of(storage_key: bytes) -> bytes:
    """Return what a warning shows of a key of the type unknown. [KEYS-9]"""
    parts = storage_key[:BEGINNING_LIMIT].split(b"|")
    return b"|".join(parts[:2]) + b"|" if len(parts) > 2 else storage_key[:BEGINNING_LIMIT]
