"""Collections of any number of elements, in each layout that a store can have. Imports nothing of the decoders."""

import struct
from collections.abc import Callable

from collection_stores import sized, text_field
from writer import Entry, put

USER_KEY = sized(b"k")
Layout = Callable[[int], list[Entry]]


def items(count: int) -> list[Entry]:
    meta = struct.pack(">qqQ", 0, count, count)
    elements = [put(b"!lst|itm|k" + struct.pack(">Q", n + 2**63), 1, b"item %d" % n) for n in range(count)]
    return [*elements, put(b"!lst|meta|k", 1, meta)]


def stream_elements(count: int) -> list[Entry]:
    meta = struct.pack(">QQQ", count, count, 0)
    body = b"\0RXE\1" + text_field(1, b"1-0") + text_field(2, b"name") + text_field(2, b"value")
    elements = [put(b"!stream|entry|" + USER_KEY + struct.pack(">QQ", n, 0), 1, body) for n in range(count)]
    return [*elements, put(b"!stream|meta|" + USER_KEY, 1, meta)]


def wide(prefix: bytes, body: bytes) -> Layout:
    """Return a layout of a hash, a set or a zset: an element and a delta for each number."""
    delta = prefix[: prefix.index(b"|") + 1] + b"meta|d|" + USER_KEY
    return lambda count: [
        entry
        for n in range(count)
        for entry in (
            put(prefix + USER_KEY + b"element %06d" % n, 1, body),
            put(delta + struct.pack(">QI", n, 0), 1, bytes(8)),
        )
    ]


def packed(type_: bytes, magic: bytes, more: bytes) -> Layout:
    """Return a layout of one packed record, with its elements in no order."""

    def made(count: int) -> list[Entry]:
        names = [text_field(1, b"element %06d" % (n * 7919 % count)) for n in range(count)]
        fields = names if type_ == b"set" else [text_field(1, name + more) for name in names]
        return [put(b"!redis|" + type_ + b"|k", 1, magic + b"".join(fields))]

    return made


LAYOUTS: dict[str, Layout] = {
    "hash": wide(b"!hs|fld|", b"value"), "set": wide(b"!st|mem|", b""), "zset": wide(b"!zs|mem|", bytes(8)),
    "list": items, "stream": stream_elements,
    "packed hash": packed(b"hash", b"\0RH\1", text_field(2, b"value")), "packed set": packed(b"set", b"\0RS\1", b""),
    "packed zset": packed(b"zset", b"\0RZ\1", b"\x11" + bytes(8)),
}  # fmt: skip
"""Name of a layout = a function that makes the entries of one collection from the number of its elements."""
