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
from typing import Final

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
KEPT_SIZE = 64 * 1024
"""Most bytes of the records of one user key, as the index has them, that are kept in memory."""
SIZE_FIELD_SIZE: Final = 4
"""Bytes in front of a sized user key. [TYPE-1]"""


class Group:
    """The records of collections that one user key has.

    Those of a small group are kept in memory while the group is; those of others are read from the index again.
    """

    def __init__(self, index: RecordIndex, order: bytes, position: int) -> None:
        """`order` begins the sort keys of all its records; `position` is where the first one stands in the index."""
        self.user_key = decode_order(order)
        self.type: str | None = None
        """The type that the records make; None if they make no collection. [TYPE-4]"""
        self.counts: dict[int, int] = {}
        """Rank = how many records of it there are; ranks without records are left out."""
        self._index = index
        self._position = position
        self._rank_at = len(order)
        self._size = 0
        """Bytes of all its records in the index."""
        self._kept: dict[int, list[Record]] = {}
        """Rank = its records; empty if the group is not small."""

    def add(self, record: Record, size: int) -> None:
        """Add the next record of the index, which takes so many bytes there."""
        sort_key, body_offset, body_size, head = record
        rank = sort_key[self._rank_at]
        self.counts[rank] = self.counts.get(rank, 0) + 1
        if self.type is None and rank in MAKES:
            self.type = RANKS[rank][0]
        self._size += size
        if self._size > KEPT_SIZE:
            self._kept.clear()
        else:
            kept = Record(sort_key[self._rank_at + 1 :], body_offset, body_size, head)
            self._kept.setdefault(rank, []).append(kept)

    @property
    def record_count(self) -> int:
        """How many records there are."""
        return sum(self.counts.values())

    def count(self, kind: str) -> int:
        """Return how many records of a kind the collection has that the user key is."""
        return self.counts.get(RANK_OF.get((self.type or "", kind), -1), 0)

    def iter_kind(self, kind: str) -> Iterator[Record]:
        """Yield these records; their `user_key` is the suffix."""
        if not self.count(kind):
            return iter(())
        rank = RANK_OF[self.type or "", kind]
        return iter(self._kept[rank]) if self._kept else self._iter_rank(rank)

    def _iter_rank(self, rank: int) -> Iterator[Record]:
        window_size = min(self._size, WINDOW_SIZE)
        for sort_key, body_offset, body_size, head in self._index.iter_from(
            self._position, self.record_count, window_size
        ):
            rank_of_record = sort_key[self._rank_at]
            if rank_of_record > rank:
                return
            if rank_of_record == rank:
                yield Record(sort_key[self._rank_at + 1 :], body_offset, body_size, head)

    def first(self, kind: str) -> Record | None:
        """Return the first of these records, if there is one."""
        return next(self.iter_kind(kind), None)


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
        sort_key = encode_order(user_key) + bytes((rank,)) + suffix
        self._sorter.add(sort_key, FIELDS.pack(len(sort_key), body_offset, body_size) + head)

    def finish(self) -> None:
        """Sort the records."""
        for sort_key, fields in self._sorter:
            self.records.add_encoded(fields + sort_key)
        self._sorter.close()

    def iter_groups(self) -> Iterator[Group]:
        """Yield the records of each user key, in canonical order of the user keys."""
        group: Group | None = None
        order, position = b"", 0
        for record in self.records:
            sort_key = record.user_key
            if group is None or not sort_key.startswith(order):
                if group is not None:
                    yield group
                order = sort_key[: sort_key.index(END_OF_USER_KEY) + len(END_OF_USER_KEY)]
                group = Group(self.records, order, position)
            size = FIELDS.size + len(record.head) + len(sort_key)
            group.add(record, size)
            position += size
        if group is not None:
            yield group

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
