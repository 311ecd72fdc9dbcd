"""Records of collections that are built to break a decoder. Imports nothing of the decoders.

`choose` picks one of a list: `random.Random.choice`, or what a strategy of Hypothesis draws.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

Choose = Callable[[Sequence[Any]], Any]

NAMES: Final = (b"", b"a", b"ab", b"b", b"\xff", b"a\xff", b"<&>", "é\u2028".encode(), b"x" * 40)
"""Names, members and items."""
NUMBERS: Final = (-(2**63), -2, -1, 0, 1, 2, 3, 2**63 - 1)
"""Numbers of items."""
SCORES: Final = (
    0.0, -0.0, 1.0, -1.5, 1e21, 1e20, 1e-6, 1e-7, 5e-324, 0.1, 1000.1, float("inf"), float("-inf"), float("nan"),
    123456789012345680000.0,
)  # fmt: skip
EXPIRIES: Final = (0, 0, 1, 1_700_000_000_000, 2**63 - 1, 2**63, 2**64 - 1)
PLACES: Final = ((0, 0), (0, 1), (1, 0), (5, 7), (2**64 - 1, 2**64 - 1))
KINDS: Final = (
    "hash meta", "hash element", "hash element", "hash delta", "hash packed",
    "list meta", "list element", "list element", "list delta", "list claim",
    "set meta", "set element", "set element", "set delta", "set packed",
    "zset meta", "zset element", "zset element", "zset delta", "zset index", "zset packed",
    "stream meta", "stream meta", "stream element", "stream element", "stream packed",
)  # fmt: skip
SHORT: Final = {"hash": b"hs", "list": b"lst", "set": b"st", "zset": b"zs", "stream": b"stream"}
ELEMENT: Final = {"hash": b"fld", "set": b"mem", "zset": b"mem"}
MAGICS: Final = {"hash": b"\0RH\1", "set": b"\0RS\1", "zset": b"\0RZ\1", "stream": b"\0RX\1"}


def sized(user_key: bytes) -> bytes:
    """Write a sized user key. [TYPE-1]"""
    return struct.pack(">I", len(user_key)) + user_key


def text_field(number: int, value: bytes) -> bytes:
    """Write a field of the wire type 2. [COLL-10]"""
    size = len(value)
    digits = bytearray()
    while size >= 128:
        digits.append(size % 128 + 128)
        size //= 128
    return bytes((number * 8 + 2, *digits, size)) + value


def collection_record(choose: Choose, user_key: bytes) -> tuple[bytes, bytes]:
    """Return storage key and body of a record of any collection."""
    type_, kind = choose(KINDS).split()
    start = b"!" + SHORT[type_]
    stray = choose((b"",) * 30 + (b"x",))
    if kind == "meta":
        key = start + b"|meta|" + (user_key if type_ == "list" else sized(user_key)) + stray
        return key, _meta(choose, type_)
    if kind == "delta":
        key = start + b"|meta|d|" + sized(user_key) + struct.pack(">QI", choose((1, 2)), choose((0, 1))) + stray
        usual = struct.pack(">qq", choose((-1, 0, 1, 2**63 - 1)), choose((-2, -1, 0, 1, 2, 3)))
        return key, choose((usual, usual, usual, b"", bytes(8), bytes(17)))
    if kind == "claim":
        return start + b"|claim|" + sized(user_key) + struct.pack(">Q", choose((0, 1))) + stray, b""
    if kind == "index":
        return start + b"|scr|" + sized(user_key) + struct.pack(">d", 1) + choose(NAMES), b""
    if kind == "packed":
        return b"!redis|" + type_.encode() + b"|" + user_key, _packed(choose, type_)
    if type_ == "list":
        return start + b"|itm|" + user_key + struct.pack(">Q", choose(NUMBERS) + 2**63), choose(NAMES)
    if type_ == "stream":
        return start + b"|entry|" + sized(user_key) + struct.pack(">QQ", *choose(PLACES)) + stray, _element(choose)
    key = start + b"|" + ELEMENT[type_] + b"|" + sized(user_key) + choose(NAMES)
    if type_ == "zset":
        return key, choose((struct.pack(">d", choose(SCORES)),) * 8 + (b"", bytes(7), bytes(9)))
    return key, choose(NAMES)


def _meta(choose: Choose, type_: str) -> bytes:
    length = choose((0, 1, 2, 3, 2**63 - 1, 2**63))
    expiry = struct.pack(">Q", choose(EXPIRIES))
    if type_ == "list":
        head = choose((-2, -1, 0, 1, -(2**63)))
        tail = head + length + choose((0,) * 9 + (1,))
        body = struct.pack(">qQQ", head, tail % 2**64, length)
    elif type_ == "stream":
        body = struct.pack(">QQQ", length, choose((0, 5, 2**64 - 1)), choose((0, 7)))
        if choose((True, False)):
            return body + expiry + struct.pack(">QQ", *choose(PLACES))
    else:
        body = struct.pack(">Q", length)
    bodies = (body, body + expiry, body + expiry, body + expiry, body + expiry + b"x", body[:-1])
    return bytes(choose(bodies))


def _damaged(choose: Choose, body: bytes) -> bytes:
    """Return a body, now and then with something wrong in it."""
    broken = (body[:-1], body + b"\x0a", body + b"\x0e", body + b"\x10" + b"\xff" * 10, body + b"\x02\0", b"junk", b"")
    ignored = (body + b"\x10\x05", body + b"\x19" + bytes(8), body + b"\x25" + bytes(4), body + b"\xfa\1\1\xff")
    return bytes(choose((body,) * 12 + ignored + broken))


def _packed(choose: Choose, type_: str) -> bytes:
    body = MAGICS[type_]
    for _ in range(choose((0, 1, 2, 3))):
        name = choose((*NAMES[:4], "é".encode(), b"<", *NAMES[:1] * 3, b"\xff"))
        if type_ == "set":
            body += text_field(1, name)
        elif type_ == "hash":
            body += text_field(1, _damaged(choose, text_field(1, name) + text_field(2, choose((b"", b"v", b"w")))))
        else:
            score = b"\x11" + struct.pack("<d", choose(SCORES))
            body += text_field(1, _damaged(choose, text_field(1, name) + choose((b"", score, score))))
    return _damaged(choose, body)


def _element(choose: Choose) -> bytes:
    fields = [text_field(2, choose((b"", b"a", b"<b>", "é".encode()))) for _ in range(choose((0, 0, 2, 4, 4, 3)))]
    return _damaged(choose, b"\0RXE\1" + text_field(1, choose((b"1-0", b"x", b""))) + b"".join(fields))
