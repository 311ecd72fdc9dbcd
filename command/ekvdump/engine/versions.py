"""Which version of each key is visible. Implements spec chapter VISI.

    encoded key                               encoded value
    size  field           value               size  field      value
    ----  --------------  ----------------    ----  ---------  ---------------------------
       -  storage key     bytes                  1  flags      u8
       8  version suffix  u64_be NOT              8  expire_at  u64_le, the store's clock
                          commit timestamp       -  body       bytes

    flags: bit 0 tombstone; bits 1-2 encryption state; bits 3-7 reserved

Sound headers are judged at a glance here; what is wrong with others, `ekvformat.visibility` says.

The rules this module lives by: a storage key can get further versions only while it is a
prefix of the current encoded key, so the open keys are prefixes of one another, and a stack
of their sizes is all the memory that is needed; and what an entry is, is decided only in
`Versions.classify`, for both passes.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

from ekvformat.outcomes import Fault
from ekvformat.visibility import (
    ALL_ONES,
    META_VALUE_SIZE,
    TOMBSTONE,
    VALUE_HEADER_SIZE,
    VERSION_SUFFIX_SIZE,
    WRITERS_VALUE_SIZE,
    decode_version,
    is_operational,
)

from ekvdump.engine.entries import Entry, as_in_memory

OPERATIONAL_SIZES: Final = frozenset((META_VALUE_SIZE, WRITERS_VALUE_SIZE))
"""Sizes of the values of all operational entries."""
NO_EXPIRE_AT: Final = bytes(8)
"""`expire_at` of a version that has none. [VISI-13]"""


OPERATIONAL: Final = "operational"
"""One of the node's own rows. [VISI-7] [VISI-8]"""
FAULTY: Final = "faulty"
"""An entry whose headers cannot be. [VISI-6]"""
FUTURE: Final = "future"
"""A version above the last commit. [VISI-14]"""
HISTORY: Final = "history"
"""An older version than the one that counts. [VISI-11]"""
DELETED: Final = "deleted"
"""The version that counts is a tombstone. [VISI-12]"""
EXPIRED: Final = "expired"
"""The version that counts had expired at the last commit. [VISI-13]"""
EXISTS: Final = "exists"
"""The version that counts has a body to show."""


Body = tuple[int, int, bytes]
"""Offset and size of a body in the snapshot, and its first few bytes; never a copy of it. [VISI-21]"""


class OpenKeys:
    """The storage keys that can still get versions, each a prefix of the current encoded key."""

    def __init__(self) -> None:
        self.current = b""
        """The encoded key that came last."""
        self._sizes: list[int] = []
        """Sizes of the open keys, ascending. As prefixes of one key, no two have the same size."""
        self._bodies: list[Body | None] = []
        """For each of them, the body of the version that counts; None if the key does not exist."""
        self.longest = b""
        """The longest of them; the only one that is kept as bytes. [VISI-21]"""

    def advance(self, encoded_key: bytes) -> Sequence[tuple[int, Body | None]]:
        """Make this the current encoded key; return the keys that this closes, the longest first.

        A closed key is given as its size, in bytes of the encoded key that was current before. [VISI-21]
        """
        # [VISI-18] The whole encoded key is compared, its version suffix included. While it begins
        # with the longest open key it begins with all of them.
        previous, self.current = self.current, encoded_key
        if encoded_key.startswith(self.longest):
            return ()
        sizes, bodies = self._sizes, self._bodies
        closed = [(sizes.pop(), bodies.pop())]  # [VISI-20] The longest is on top.
        while sizes and not encoded_key.startswith(previous[: sizes[-1]]):
            closed.append((sizes.pop(), bodies.pop()))
        self.longest = previous[: sizes[-1]] if sizes else b""
        return closed

    def close_all(self) -> Sequence[tuple[int, Body | None]]:
        """Return the keys that are still open after the last entry, as `advance` does."""
        closed = list(zip(reversed(self._sizes), reversed(self._bodies), strict=True))  # [VISI-20]
        self._sizes.clear()
        self._bodies.clear()
        return closed

    def is_open(self, size: int) -> bool:
        """Return True if the first `size` bytes of the current encoded key are an open key."""
        sizes = self._sizes
        if not sizes or size > sizes[-1]:
            return False
        return sizes[bisect_left(sizes, size)] == size

    def open(self, size: int, body: Body | None) -> None:
        """Open the first `size` bytes of the current encoded key."""
        sizes = self._sizes
        if not sizes or size > sizes[-1]:
            sizes.append(size)
            self._bodies.append(body)
            self.longest = self.current[:size]
            return
        # [VISI-19] It may be shorter than keys that are already open.
        place = bisect_left(sizes, size)
        sizes.insert(place, size)
        self._bodies.insert(place, body)


class Versions:
    """Decides for the entries of a snapshot, in their order, which version of each key counts."""

    def __init__(self, last_commit_ts: int) -> None:
        self._last_commit_ts = last_commit_ts
        self._first_shown = first_suffix_shown(last_commit_ts)
        self._open_keys = OpenKeys()
        self._previous = b""
        """The encoded key whose prefixes are in `closed`."""
        self.closed: Sequence[tuple[int, Body | None]] = ()
        """The keys that the last entry closed, for `take_records`."""

    def classify(self, entry: Entry) -> str:
        """Return what an entry is: one of the constants from `OPERATIONAL` to `EXISTS`, the first that applies."""
        _, key, value_offset, value_size, value_head = entry
        # [VISI-9]
        if value_size in OPERATIONAL_SIZES and is_operational(as_in_memory(entry)):
            return OPERATIONAL
        # [VISI-6] These three conditions include every header fault; `find_header_fault` names it.
        if len(key) < VERSION_SUFFIX_SIZE or value_size < VALUE_HEADER_SIZE or value_head[0] > TOMBSTONE:
            return FAULTY
        size = len(key) - VERSION_SUFFIX_SIZE
        # [VISI-14] Such an entry closes no key by itself: the next one that counts closes the same keys.
        if key[size:] < self._first_shown:
            return FUTURE
        open_keys = self._open_keys
        previous = open_keys.current
        if closed := open_keys.advance(key):
            self._previous, self.closed = previous, closed
        # [VISI-11] A newer version has been here.
        if size <= len(open_keys.longest) and open_keys.is_open(size):
            return HISTORY
        state = decode_state(value_head, self._last_commit_ts)
        if state == EXISTS:
            head = value_head[VALUE_HEADER_SIZE:]
            open_keys.open(size, (value_offset + VALUE_HEADER_SIZE, value_size - VALUE_HEADER_SIZE, head))
        else:
            open_keys.open(size, None)
        return state

    def take_records(self) -> Iterator[tuple[bytes, Body]]:
        """Yield the storage keys that the last entry closed and that have a record, the longest first. [VISI-20]"""
        closed, self.closed = self.closed, ()
        for size, body in closed:
            # One copy of a key at a time: a chain of prefixes may be thousands of keys deep. [VISI-21]
            if body is not None:
                yield self._previous[:size], body

    def close(self) -> None:
        """Close the keys that are still open after the last entry."""
        self._previous, self.closed = self._open_keys.current, self._open_keys.close_all()


def find_header_fault(entry: Entry) -> Fault | None:
    """Return the fault in the headers of an entry that is not operational, or None. [VISI-6]"""
    try:
        decode_version(as_in_memory(entry))
    except Fault as fault:
        return fault
    return None


def first_suffix_shown(last_commit_ts: int) -> bytes:
    """Return the version suffix of the last commit: a suffix that sorts below it belongs to a future version. [VISI-14]

    A suffix is NOT commit timestamp [VISI-1], so that newer versions sort first; two of them can be compared as
    they stand.
    """
    return (last_commit_ts ^ ALL_ONES).to_bytes(VERSION_SUFFIX_SIZE, "big")


def decode_state(value_head: bytes, last_commit_ts: int) -> str:
    """Return the state of the version that counts: `DELETED`, `EXPIRED` or `EXISTS`."""
    # [VISI-12]
    if value_head[0] & TOMBSTONE:
        return DELETED
    # [VISI-13] 0 means no expiry here: this is the store's own field, not a user's expiry.
    expire_at = value_head[1:VALUE_HEADER_SIZE]
    if expire_at != NO_EXPIRE_AT and int.from_bytes(expire_at, "little") <= last_commit_ts:
        return EXPIRED
    return EXISTS
