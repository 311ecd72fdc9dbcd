"""From entries to visible records. Implements spec chapter VISI.

    encoded key                               encoded value
    size  field           value               size  field      value
    ----  --------------  ----------------    ----  ---------  ---------------------------
       -  storage key     bytes                  1  flags      u8
       8  version suffix  u64_be NOT              8  expire_at  u64_le, the store's clock
                          commit timestamp       -  body       bytes

    flags: bit 0 tombstone; bits 1-2 encryption state; bits 3-7 reserved

The rule this module lives by: a storage key can get further versions only as
long as it is a prefix of the encoded key at hand. So the keys that are open at
any moment are prefixes of one another, and a stack of their sizes is all the
memory that it takes.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from ekvdump.engine.entries import Entry
from ekvdump.format.outcomes import Changed, Encrypted, Fault, ReservedBits, TooShort

VERSION_SUFFIX_SIZE: Final = 8
"""u64_be NOT commit timestamp. [VISI-1]"""
VALUE_HEADER_SIZE: Final = 9
"""flags and expire_at. [VISI-2]"""
ALL_ONES: Final = 0xFFFF_FFFF_FFFF_FFFF
"""NOT x is x XOR this, in 64 bits. [VISI-1]"""
TOMBSTONE: Final = 0b0000_0001
"""Flag bit: the key is deleted. [VISI-12]"""
ENCRYPTION_STATE: Final = 0b0000_0110
"""Flag bits of the encryption state. [VISI-4] [VISI-5]"""
ENCRYPTED: Final = 0b0000_0010
"""Encryption state 01. [VISI-5]"""
RESERVED_FLAGS: Final = 0b1111_1000
"""Flag bits with no meaning. [VISI-3]"""

APPLIED_INDEX_KEY: Final = b"_meta_applied_index"
"""The last index that wrote data, u64_le. [VISI-9]"""
META_KEYS: Final = frozenset(
    (b"_meta_last_commit_ts", b"_meta_min_retained_ts", b"_meta_pending_min_retained_ts", APPLIED_INDEX_KEY)
)
"""Keys of operational rows. [VISI-7]"""
META_VALUE_SIZE: Final = 8
"""u64_le. [VISI-7]"""
WRITERS_PREFIX: Final = b"!encryption|writers|"
"""Begins the key of an operational row: then four bytes, `|`, two bytes. [VISI-8]"""
WRITERS_KEY_SIZE: Final = 27
"""The whole key. [VISI-8]"""
WRITERS_BAR_AT: Final = 24
"""Where the last `|` stands in it. [VISI-8]"""
WRITERS_VALUE_SIZE: Final = 12
"""The whole value. [VISI-8]"""

OPERATIONAL_SIZES: Final = frozenset((META_VALUE_SIZE, WRITERS_VALUE_SIZE))
"""Sizes of the values of all operational rows."""
NO_EXPIRE_AT: Final = bytes(8)
"""`expire_at` of a version that has none. [VISI-13]"""


class Record(NamedTuple):
    """What is visible of one storage key."""

    storage_key: bytes
    body_offset: int
    """Where its body stands in the snapshot."""
    body_size: int


Held = tuple[int, int]
"""What an open key keeps until it closes: offset and size of its body, never a copy. [VISI-21]"""


class OpenKeys:
    """The storage keys that can still get versions, each a prefix of the encoded key at hand."""

    def __init__(self) -> None:
        self.at_hand = b""
        """The encoded key that came last."""
        self._sizes: list[int] = []
        """Sizes of the open keys, ascending. As prefixes of one key, no two have the same."""
        self._held: list[Held | None] = []
        """For each of them, what is to be shown of it; None if nothing is."""
        self._longest = b""
        """The longest of them; the only one that is here as bytes. [VISI-21]"""

    def arrive(self, encoded_key: bytes, size: int) -> bool:
        """Let an entry arrive whose storage key has `size` bytes; say whether it is that key's first."""
        self.advance(encoded_key)
        sizes = self._sizes
        if sizes and size <= sizes[-1] and self.is_open(size):
            return False
        self.open(size, None)
        return True

    def advance(self, encoded_key: bytes) -> Sequence[tuple[int, Held | None]]:
        """Make this the encoded key at hand; return what that closes, the longest first.

        A closed key is given as its size, in bytes of the key that was at hand before. [VISI-21]
        """
        # [VISI-18] The whole encoded key is compared, its version suffix included. While it begins
        # with the longest open key it begins with all of them.
        at_hand, self.at_hand = self.at_hand, encoded_key
        if encoded_key.startswith(self._longest):
            return ()
        sizes, held = self._sizes, self._held
        closed = [(sizes.pop(), held.pop())]  # [VISI-20] The longest is on top.
        while sizes and not encoded_key.startswith(at_hand[: sizes[-1]]):
            closed.append((sizes.pop(), held.pop()))
        self._longest = at_hand[: sizes[-1]] if sizes else b""
        return closed

    def close_all(self) -> Sequence[tuple[int, Held | None]]:
        """Return what is still open behind the last entry, as `advance` does."""
        closed = list(zip(reversed(self._sizes), reversed(self._held), strict=True))  # [VISI-20]
        self._sizes.clear()
        self._held.clear()
        return closed

    def is_open(self, size: int) -> bool:
        """Say whether the first `size` bytes of the encoded key at hand are an open key."""
        sizes = self._sizes
        if not sizes or size > sizes[-1]:
            return False
        return sizes[bisect_left(sizes, size)] == size

    def open(self, size: int, held: Held | None) -> None:
        """Open the first `size` bytes of the encoded key at hand."""
        sizes = self._sizes
        if not sizes or size > sizes[-1]:
            sizes.append(size)
            self._held.append(held)
            self._longest = self.at_hand[:size]
            return
        # [VISI-19] It may be shorter than keys that are already open.
        place = bisect_left(sizes, size)
        sizes.insert(place, size)
        self._held.insert(place, held)


def is_operational(encoded_key: bytes, value_size: int) -> bool:
    """Say whether an entry is one of the node's own rows, without version suffix and value header."""
    if value_size not in OPERATIONAL_SIZES:
        return False
    # [VISI-7] [VISI-10]
    if value_size == META_VALUE_SIZE:
        return encoded_key in META_KEYS
    # [VISI-8] [VISI-10] The bytes between are a node's id: any bytes, `|` included.
    return (
        value_size == WRITERS_VALUE_SIZE
        and len(encoded_key) == WRITERS_KEY_SIZE
        and encoded_key.startswith(WRITERS_PREFIX)
        and encoded_key[WRITERS_BAR_AT] == ord("|")
    )


def find_header_fault(entry: Entry) -> Fault | None:
    """Return what is wrong with the headers of an entry that is not operational. [VISI-6]"""
    # [VISI-1]
    if len(entry.key) < VERSION_SUFFIX_SIZE:
        detail = f"an encoded key of {len(entry.key)} bytes has no room for its version suffix"
        return TooShort("VISI-1", detail, entry.offset + 8, None, entry.key)
    storage_key = entry.key[:-VERSION_SUFFIX_SIZE]
    # [VISI-2]
    if entry.value_size < VALUE_HEADER_SIZE:
        detail = f"an encoded value of {entry.value_size} bytes has no room for its header"
        return TooShort("VISI-2", detail, entry.value_offset, None, storage_key)
    flags = entry.value_head[0]
    # [VISI-3]
    if flags & RESERVED_FLAGS:
        detail = f"flags {flags:08b}: bits 3 to 7 are reserved"
        return ReservedBits("VISI-3", detail, entry.value_offset, None, storage_key)
    state = flags & ENCRYPTION_STATE
    # [VISI-5] State 01, on a tombstone too.
    if state == ENCRYPTED:
        return Encrypted("VISI-5", "the value is encrypted", entry.value_offset, None, storage_key)
    # [VISI-4] States 10 and 11.
    if state:
        detail = f"flags {flags:08b}: encryption states 10 and 11 are reserved"
        return ReservedBits("VISI-4", detail, entry.value_offset, None, storage_key)
    return None


def first_suffix_shown(last_commit_ts: int) -> bytes:
    """Return the version suffix of the last commit: a suffix that sorts below it is of a future version. [VISI-14]

    A suffix is NOT commit timestamp [VISI-1], so that newer versions sort first; two of them can be compared as
    they stand.
    """
    return (last_commit_ts ^ ALL_ONES).to_bytes(VERSION_SUFFIX_SIZE, "big")


def decode_state(value_head: bytes, last_commit_ts: int) -> str:
    """Say what the version that counts says of its key: `deleted`, `expired` or `exists`."""
    # [VISI-12]
    if value_head[0] & TOMBSTONE:
        return "deleted"
    # [VISI-13] 0 is none here: this is the store's own field, not a user's expiry.
    expire_at = value_head[1:VALUE_HEADER_SIZE]
    if expire_at != NO_EXPIRE_AT and int.from_bytes(expire_at, "little") <= last_commit_ts:
        return "expired"
    return "exists"


def iter_records(entries: Iterable[Entry], last_commit_ts: int, belongs: Callable[[bytes], bool]) -> Iterator[Record]:
    """Yield the visible records of the storage keys that `belongs` accepts, in canonical order. [VISI-17]

    The entries have been judged before, so what is wrong with one now raises `Changed`. [FILE-20]
    """
    open_keys = OpenKeys()
    first_shown = first_suffix_shown(last_commit_ts)
    for offset, key, value_offset, value_size, value_head in entries:
        if is_operational(key, value_size):  # [VISI-9]
            continue
        size = len(key) - VERSION_SUFFIX_SIZE
        if size < 0 or value_size < VALUE_HEADER_SIZE:
            raise Changed("FILE-20", "this entry is not any more what was judged", offset)
        previous = open_keys.at_hand
        for closed_size, held in open_keys.advance(key):
            # One copy of a key at a time: a chain of prefixes may be thousands of keys deep. [VISI-21]
            if held is not None:
                yield Record(previous[:closed_size], *held)
        if (
            key[size:] >= first_shown  # [VISI-14]
            and not open_keys.is_open(size)  # [VISI-11] a newer version has been here
            and belongs(key[:size])
        ):
            exists = decode_state(value_head, last_commit_ts) == "exists"
            body = (value_offset + VALUE_HEADER_SIZE, value_size - VALUE_HEADER_SIZE)
            open_keys.open(size, body if exists else None)
    for closed_size, held in open_keys.close_all():
        if held is not None:
            yield Record(open_keys.at_hand[:closed_size], *held)
