"""The visible records of collections, by user key. Implements part of spec chapter TYPE.

The storage keys of collections have sizes in front, so the order of the file is not that of
the user keys. This index sorts all records by a key of its own:

    user key   in canonical order [VISI-17]: each FF as FF 00, and FF FF at the end
    rank       one byte: a place in `RANKS`
    suffix     bytes

So all records of a user key stand together, and the first of them that makes a collection
says of which type the user key is [TYPE-4]; those of each kind stand in bytewise order of
their suffixes [COLL-17].
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from ekvformat import keys
from ekvformat.user_keys import (
    CLAIM,
    DELTA,
    ELEMENT,
    INDEX,
    LIST_DELTA_PREFIX,
    LIST_META_PREFIX,
    LIST_META_SIZES,
    META,
    PACKED,
    PRECEDENCE,
    SHAPES,
)

from ekvdump.engine.record_index import FIELDS, WINDOW_SIZE, Record, RecordIndex
from ekvdump.engine.run_sorter import RunSorter

RANKS: Final = (
    (keys.LIST, META), (keys.LIST, DELTA), (keys.LIST, ELEMENT), (keys.LIST, CLAIM),
    (keys.HASH, META), (keys.HASH, DELTA), (keys.HASH, ELEMENT),
    (keys.SET, META), (keys.SET, DELTA), (keys.SET, ELEMENT),
    (keys.ZSET, META), (keys.ZSET, DELTA), (keys.ZSET, ELEMENT), (keys.ZSET, INDEX),
    (keys.HASH, PACKED), (keys.SET, PACKED), (keys.ZSET, PACKED),
    (keys.STREAM, META), (keys.STREAM, ELEMENT), (keys.STREAM, PACKED),
)  # fmt: skip
"""Types and kinds of records, in the order of TYPE-4 and, of one type, of COLL-17."""
RANK_OF: Final = {place: rank for rank, place in enumerate(RANKS)}
RANK_OF_PREFIX: Final = {prefix: RANK_OF[shape.type, shape.kind] for prefix, shape in SHAPES.items()}
PREFIX_OF_RANK: Final = {rank: prefix for prefix, rank in RANK_OF_PREFIX.items()}
MAKES: Final = frozenset(
    RANK_OF[type_, kind] for type_, kinds in PRECEDENCE for kind in kinds if type_ in keys.COLLECTIONS
)
"""Ranks of records of which one is enough to make a collection. [TYPE-4]"""
END_OF_USER_KEY: Final = b"\xff\xff"
SIZE_FIELD_SIZE: Final = 4
"""Bytes in front of a sized user key. [TYPE-1]"""


class Group(NamedTuple):
    """The records of collections that one user key has."""

    user_key: bytes
    position: int
    """Where its first record stands in the index, in bytes."""
    size: int
    """Bytes of all its records there."""
    counts: list[int]
    """Records by rank."""
    type: str | None
    """The type that they make; None if they make no collection. [TYPE-4]"""

    def count(self, type_: str) -> int:
        """Return how many records of a type there are."""
        return sum(count for count, (other, _) in zip(self.counts, RANKS, strict=True) if other == type_)


class CollectionIndex:
    """The records of all collections. Raises what `Spool` raises."""

    def __init__(self) -> None:
        self._sorter = RunSorter()
        self.records = RecordIndex()
        """In the order of the index, once `finish` was called; a `user_key` is a sort key here."""
        self.strays = dict.fromkeys(keys.COLLECTIONS, 0)
        """Type = records that belong to no user key. [TYPE-2]"""

    def add(self, storage_key: bytes, prefix: bytes, body_offset: int, body_size: int, head: bytes) -> None:
        """Add a record, whose storage key begins with a prefix of `SHAPES`."""
        place = split_storage_key(storage_key, prefix, body_size)
        if place is None:
            self.strays[SHAPES[prefix].type] += 1
            return
        rank, user_key, suffix = place
        self._sorter.add(
            encode_order(user_key) + bytes((rank,)) + suffix, FIELDS.pack(0, body_offset, body_size) + head
        )

    def finish(self) -> None:
        """Sort the records."""
        for key, tail in self._sorter:
            _, body_offset, body_size = FIELDS.unpack_from(tail)
            self.records.add(key, body_offset, body_size, tail[FIELDS.size :])
        self._sorter.close()

    def iter_groups(self) -> Iterator[Group]:
        """Yield the records of each user key, in canonical order of the user keys."""
        order, begin, position = b"", 0, 0
        counts: list[int] = []
        type_: str | None = None
        for record in self.records:
            sort_key = record.user_key
            if not (order and sort_key.startswith(order)):
                if order:
                    yield Group(decode_order(order), begin, position - begin, counts, type_)
                order = sort_key[: sort_key.index(END_OF_USER_KEY) + len(END_OF_USER_KEY)]
                begin, counts, type_ = position, [0] * len(RANKS), None
            rank = sort_key[len(order)]
            counts[rank] += 1
            if type_ is None and rank in MAKES:
                type_ = RANKS[rank][0]
            position += FIELDS.size + len(record.head) + len(sort_key)
        if order:
            yield Group(decode_order(order), begin, position - begin, counts, type_)

    def iter_records(self, group: Group, first_rank: int = 0, last_rank: int = len(RANKS)) -> Iterator[Record]:
        """Yield the records of a group that are of these ranks; their `user_key` is the suffix."""
        begin = len(encode_order(group.user_key)) + 1
        window_size = min(group.size, WINDOW_SIZE)
        for record in self.records.iter_from(group.position, sum(group.counts), window_size):
            rank = record.user_key[begin - 1]
            if rank > last_rank:
                return
            if rank >= first_rank:
                yield record._replace(user_key=record.user_key[begin:])

    def meta_of(self, group: Group) -> Record | None:
        """Return the meta of the collection that a user key is, if it has one."""
        rank = RANK_OF[group.type or "", META]
        return next(self.iter_records(group, rank, rank), None) if group.counts[rank] else None

    def close(self) -> None:
        """Give up the records."""
        self._sorter.close()
        self.records.close()


def split_storage_key(storage_key: bytes, prefix: bytes, body_size: int) -> tuple[int, bytes, bytes] | None:
    """Return rank, user key and suffix of a record; None for a stray. [TYPE-1] [TYPE-2]"""
    # [TYPE-3]
    if prefix == LIST_DELTA_PREFIX and body_size in LIST_META_SIZES:
        prefix = LIST_META_PREFIX
    shape = SHAPES[prefix]
    begin = len(prefix)
    if shape.is_sized:
        begin += SIZE_FIELD_SIZE
        end = begin + int.from_bytes(storage_key[begin - SIZE_FIELD_SIZE : begin], "big")
        if begin > len(storage_key) or end > len(storage_key):
            return None
    else:
        end = len(storage_key) - (shape.suffix_size or 0)
        if end < begin:
            return None
    suffix = storage_key[end:]
    if shape.suffix_size is not None and len(suffix) != shape.suffix_size:
        return None
    return RANK_OF_PREFIX[prefix], storage_key[begin:end], suffix


def storage_key_of(rank: int, user_key: bytes, suffix: bytes) -> bytes:
    """Return a storage key; the inverse of `split_storage_key`."""
    prefix = PREFIX_OF_RANK[rank]
    size = len(user_key).to_bytes(SIZE_FIELD_SIZE, "big") if SHAPES[prefix].is_sized else b""
    return prefix + size + user_key + suffix


def encode_order(user_key: bytes) -> bytes:
    """Return bytes that sort as user keys do in canonical order, none of which begins another. [VISI-17]"""
    return user_key.replace(b"\xff", b"\xff\0") + END_OF_USER_KEY


def decode_order(order: bytes) -> bytes:
    """Return the user key of such bytes."""
    return order[: -len(END_OF_USER_KEY)].replace(b"\xff\0", b"\xff")
