"""The type of a storage key, found fast. Implements part of spec chapter KEYS.

A type is found by the longest prefix of the storage key [KEYS-1]. Among the sorted keys
every prefix is an interval, and a longer prefix an interval inside it, so one look into the
sorted bounds is enough.
"""

from bisect import bisect_right
from typing import Final

from ekvformat.keys import TYPE_OF_PREFIX


def _after(prefix: bytes) -> bytes:
    """Return the least key above all keys with this prefix. No prefix of the table ends in FF."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


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
