"""User keys and their types. Implements spec chapter TYPE.

A collection is several records. What follows the prefix in their storage keys:

    kind     hash, set, zset         list                    stream
    -------  ----------------------  ----------------------  ----------------------
    meta     sized user key          user key                sized user key
    delta    sized user key, 12      sized user key, 12
    element  sized user key, any     user key, 8             sized user key, 16
    claim                            sized user key, 8
    index    sized user key, any (of a zset alone)
    packed   user key                                        user key

A sized user key is its size as u32_be, and the user key; a number is the size of the
suffix that follows. The field `name` of the hash `k`, for example:

    21 68 73 7C 66 6C 64 7C  prefix `!hs|fld|`: an element of a hash
    00 00 00 01              the user key has one byte
    6B                       user key `k`
    6E 61 6D 65              suffix `name`

Which of the types under one user key a client finds is the table `PRECEDENCE`, from
above. Records of all other types are shadowed, and a user key with none of what the
table asks for does not exist. Bodies play no part in this [TYPE-7], but for one
doubt between two kinds of records of a list [TYPE-3].
"""

from typing import Final, NamedTuple

from ekvformat import keys
from ekvformat.conventions import Cursor
from ekvformat.outcomes import Fault
from ekvformat.visibility import Record

VALUE: Final = "value"
"""The kind of a string or an HLL, which is one record.

TYPE has no word for it. The table below asks every type for kinds, so here it has one.
"""
META: Final = "meta"
"""What a collection knows of itself: how many elements it has, and when it ends. One of a key."""
DELTA: Final = "delta"
"""A change of what the meta says, in a record of its own beside it."""
ELEMENT: Final = "element"
"""A field of a hash, an item of a list, a member of a set or zset, an entry of a stream."""
CLAIM: Final = "claim"
"""A pop's word that it has taken an item of a list. No client reads it. [RLIS-6]"""
INDEX: Final = "index"
"""A member of a zset once more, where its score sorts it. No client reads it. [RZSE-4]"""
PACKED: Final = "packed"
"""All elements of a collection in one body, as older servers wrote them. [COLL-9]"""

DELTA_SUFFIX_SIZE: Final = 12
"""Bytes behind the user key of a delta: when it was written. [TYPE-1]"""
ITEM_SUFFIX_SIZE: Final = 8
"""Bytes behind the user key of a list's element or claim: its number. [RLIS-4]"""
STREAM_SUFFIX_SIZE: Final = 16
"""Bytes behind the user key of a stream's element: its place. [RSTM-2]"""


class Shape(NamedTuple):
    """How the storage keys of one prefix are made. [TYPE-1]"""

    type: str
    """One of `keys.COLLECTIONS`."""
    kind: str
    """What a record is in its collection: one of the words above."""
    is_sized: bool
    """Whether the user key has its size in front."""
    suffix_size: int | None
    """Size of the suffix, in bytes; None for any size."""


SHAPES: Final = {
    # A list has no size before most of its user keys, so `!lst|meta|d|` is in doubt. [TYPE-3]
    b"!lst|meta|": Shape(keys.LIST, META, False, 0),
    b"!lst|meta|d|": Shape(keys.LIST, DELTA, True, DELTA_SUFFIX_SIZE),
    b"!lst|itm|": Shape(keys.LIST, ELEMENT, False, ITEM_SUFFIX_SIZE),
    b"!lst|claim|": Shape(keys.LIST, CLAIM, True, ITEM_SUFFIX_SIZE),
    # Hashes and sets: what the elements are named is the suffix itself, whatever its size.
    b"!hs|meta|": Shape(keys.HASH, META, True, 0),
    b"!hs|meta|d|": Shape(keys.HASH, DELTA, True, DELTA_SUFFIX_SIZE),
    b"!hs|fld|": Shape(keys.HASH, ELEMENT, True, None),
    b"!redis|hash|": Shape(keys.HASH, PACKED, False, 0),
    b"!st|meta|": Shape(keys.SET, META, True, 0),
    b"!st|meta|d|": Shape(keys.SET, DELTA, True, DELTA_SUFFIX_SIZE),
    b"!st|mem|": Shape(keys.SET, ELEMENT, True, None),
    b"!redis|set|": Shape(keys.SET, PACKED, False, 0),
    # A zset has each member twice: by its name, and in the order of the scores.
    b"!zs|meta|": Shape(keys.ZSET, META, True, 0),
    b"!zs|meta|d|": Shape(keys.ZSET, DELTA, True, DELTA_SUFFIX_SIZE),
    b"!zs|mem|": Shape(keys.ZSET, ELEMENT, True, None),
    b"!zs|scr|": Shape(keys.ZSET, INDEX, True, None),
    b"!redis|zset|": Shape(keys.ZSET, PACKED, False, 0),
    # A stream has no deltas, and the suffix of an element is its place. [RSTM-2]
    b"!stream|meta|": Shape(keys.STREAM, META, True, 0),
    b"!stream|entry|": Shape(keys.STREAM, ELEMENT, True, STREAM_SUFFIX_SIZE),
    b"!redis|stream|": Shape(keys.STREAM, PACKED, False, 0),
}
"""Prefix of a collection's records = how their storage keys are made. [TYPE-1]"""

LIST_META_PREFIX: Final = b"!lst|meta|"
LIST_DELTA_PREFIX: Final = b"!lst|meta|d|"
"""Begins the deltas of every list, and the meta of a list whose user key begins with `d|`. [TYPE-3]"""
LIST_META_SIZES: Final = (24, 32)
"""Sizes of the body of a list's meta, in bytes; a delta has another. [TYPE-3] [RLIS-1]

The only bodies that this chapter looks at, and only at their sizes: whether they can be
read, the chapter of the type asks.
"""

PRECEDENCE: Final = (
    # A server asks for these first: one record each.
    (keys.STRING, (VALUE,)),
    (keys.HLL, (VALUE,)),
    (keys.BARE, (VALUE,)),
    # Then for wide collections. The items of a list alone do not make one: a pop that took
    # the last one may have left them behind. The fields of a hash alone do.
    (keys.LIST, (META, DELTA)),
    (keys.HASH, (META, DELTA, ELEMENT)),
    (keys.SET, (META, DELTA, ELEMENT)),
    (keys.ZSET, (META, DELTA, ELEMENT)),
    # Then for packed ones: a packed record beside a wide collection is shadowed or left over.
    (keys.HASH, (PACKED,)),
    (keys.SET, (PACKED,)),
    (keys.ZSET, (PACKED,)),
    # Streams come last, wide ones too.
    (keys.STREAM, (META,)),
    (keys.STREAM, (PACKED,)),
)
"""Type, and the kinds of records of which one is enough: the first line that fits counts. [TYPE-4]

Claims, index records and elements of lists and streams stand in no line: alone they make
no key. Two types may come twice, as a wide collection and as a packed one.
"""


class Place(NamedTuple):
    """Where a record of a collection belongs. [TYPE-1]"""

    type: str
    """Type of the record. Its user key may turn out to be of another one. [TYPE-5]"""
    kind: str
    user_key: bytes
    """What a client calls the collection; may be empty."""
    suffix: bytes
    """What tells records of one kind apart; empty if there can be one alone."""


def place_of(record: Record) -> Place | None:
    """Return where a record of a collection belongs; None for a stray. [TYPE-2]

    Nobody can say whose a stray is: not even its user key can be told from the rest.
    """
    prefix = keys.prefix_of(record.storage_key)
    # [TYPE-3] The sizes of the bodies are all that tells these two apart.
    if prefix == LIST_DELTA_PREFIX and len(record.body) in LIST_META_SIZES:
        prefix = LIST_META_PREFIX
    shape = SHAPES[prefix]

    cursor = Cursor(record.storage_key.removeprefix(prefix), "stray")
    try:
        if shape.is_sized:
            # A size that says more than there is belongs to nobody's key.
            size = cursor.u32_be("size of the user key", "TYPE-2")
            user_key = cursor.take(size, "user key", "TYPE-2")
        else:
            # No size: the suffix is cut from the end.
            user_key = cursor.take_all_but(shape.suffix_size or 0, "suffix", "TYPE-2")
    except Fault:
        return None
    # [TYPE-2] No server looks for a key that goes on.
    if shape.suffix_size not in (None, cursor.left):
        return None
    return Place(shape.type, shape.kind, user_key, cursor.rest())


def type_of_user_key(there: set[tuple[str, str]]) -> str | None:
    """Return the type of a user key that has records of these types and kinds; None if it does not exist.

    A bare string has the type bare here, because that says which record it is. A client sees
    a string in either case. [TYPE-4]
    """
    for type_, kinds in PRECEDENCE:
        if any((type_, kind) in there for kind in kinds):
            return type_
    return None
