"""The fields of collections: what is in their storage keys and bodies."""

import struct
import tomllib
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from ekvexplain.clauses import SPEC
from ekvexplain.pieces import SHOWN_SIZE, Field, Pieces, printable, time_of, with_content

LIST_DELTA_PREFIX: Final = b"!lst|meta|d|"
LIST_META_SIZES: Final = (24, 32)
SUFFIXES: Final = {
    ("hash", "element"): ("name of a field", "RHAS-1"), ("set", "element"): ("member", "RSET-1"),
    ("zset", "element"): ("member", "RZSE-1"), ("zset", "index"): ("score and member", "RZSE-4"),
}  # fmt: skip
"""Type and kind = what the suffix of a storage key is, and its clause; of others it is a number."""
LENGTH: Final = ("length", "Q")
EXPIRY: Final = ("expiry", "Q")
METAS: Final = {
    "hash": (LENGTH, EXPIRY), "set": (LENGTH, EXPIRY), "zset": (LENGTH, EXPIRY),
    "list": (("head", "q"), ("tail", "q"), LENGTH, EXPIRY),
    "stream": (LENGTH, ("last_ms", "Q"), ("last_seq", "Q"), EXPIRY, ("trimmed_ms", "Q"), ("trimmed_seq", "Q")),
}  # fmt: skip
"""Type = the fields of its meta, each of eight bytes, with the letter of `struct` for it."""
CLAUSES_OF_METAS: Final = {"list": "RLIS-1", "stream": "RSTM-1"}
MAGICS: Final = {"hash": b"\0RH\1", "set": b"\0RS\1", "zset": b"\0RZ\1"}
"""Type = the magic of a packed record. [COLL-9]"""
ELEMENT_MAGIC: Final = b"\0RXE\1"
"""Magic of an element of a stream. [RSTM-6]"""
UNREAD: Final = {
    ("", "delta"): "COLL-3", ("set", "element"): "RSET-1", ("zset", "index"): "RZSE-4", ("list", "claim"): "RLIS-6",
    ("stream", "packed"): "RSTM-7",
}  # fmt: skip
"""Type and kind = the clause of a body that is not looked at."""
SIZES: Final = {1: 8, 5: 4}
"""Wire type = size of its value, in bytes. [COLL-10]"""


@cache
def load_shapes() -> dict[bytes, dict[str, Any]]:
    """Return prefix = how the storage keys of a collection's records are made. [TYPE-1]"""
    table = tomllib.loads((SPEC / "companions" / "user_keys.toml").read_text(encoding="utf-8"))
    return {prefix.encode(): shape for prefix, shape in table["shapes"].items()}


def shape_of(prefix: bytes, body_size: int) -> tuple[bytes, dict[str, Any]] | None:
    """Return prefix and shape of a record, None if it is of no collection. [TYPE-3]"""
    if prefix == LIST_DELTA_PREFIX and body_size in LIST_META_SIZES:
        prefix = prefix[:-2]
    shape = load_shapes().get(prefix)
    return None if shape is None else (prefix, shape)


def iter_key_fields(pieces: Pieces, type_: str, shape: dict[str, Any], size: int) -> Iterator[Field]:
    """Yield the fields of so many bytes of a storage key, behind its prefix. [TYPE-1]"""
    suffix_size = shape.get("suffix")
    user_key_size = size - (suffix_size or 0)
    if shape["sized"]:
        user_key_size = int.from_bytes(pieces.data[:4], "big")
        whole = 4 + user_key_size + (suffix_size or 0)
        if size < 4 or size < whole or (suffix_size is not None and size > whole):
            yield from pieces.cut(size, f"{printable(pieces.data[:size], SHOWN_SIZE)}: a stray", "TYPE-2")
            return
        yield from pieces.cut(4, f"size of the user key {user_key_size}", "TYPE-1")
        size -= 4
    elif user_key_size < 0:
        yield from pieces.cut(size, f"{printable(pieces.data[:size], SHOWN_SIZE)}: a stray", "TYPE-2")
        return
    user_key = pieces.data[:user_key_size]
    yield from pieces.cut(user_key_size, f"user key {printable(user_key, SHOWN_SIZE)}, of the type {type_}", "TYPE-1")
    suffix_size = size - user_key_size
    if suffix_size or shape.get("suffix") is None:
        words, clause = _words_of_suffix(type_, shape["kind"], pieces.data[:suffix_size])
        yield from pieces.cut(suffix_size, words, clause)


def _words_of_suffix(type_: str, kind: str, suffix: bytes) -> tuple[str, str]:
    if named := SUFFIXES.get((type_, kind)):
        return f"{named[0]} {printable(suffix, SHOWN_SIZE)}", named[1]
    if kind == "delta":
        return f"suffix of a delta {printable(suffix)}", "TYPE-1"
    if type_ == "stream":
        return "place {}-{}".format(*struct.unpack(">QQ", suffix)), "RSTM-2"
    number = int.from_bytes(suffix, "big") - 2**63
    return f"number {number} of an item" if kind == "element" else f"claim on item {number}", "RLIS-4"


def iter_body_fields(pieces: Pieces, type_: str, kind: str, size: int) -> Iterator[Field]:
    """Yield the fields of the body of a record of a collection, of so many bytes."""
    if kind == "meta":
        for name, letter in METAS[type_]:
            yield from _number(pieces, name, letter, CLAUSES_OF_METAS.get(type_, "COLL-1"))
        yield from pieces.rest("more than a meta has", CLAUSES_OF_METAS.get(type_, "COLL-1"))
    elif kind == "delta" and type_ == "list":
        for name in ("head_delta", "length_delta"):
            yield from _number(pieces, name, "q", "RLIS-2")
        yield from pieces.rest("more than a delta has", "RLIS-2")
    elif kind == "element" and type_ == "zset":
        score = f"score {struct.unpack('>d', pieces.data[:8])[0]!r}" if size == 8 else "a score has eight bytes"
        yield from pieces.rest(score, "RZSE-1")
    elif kind == "element" and type_ == "stream":
        yield from _message(pieces, ELEMENT_MAGIC, "magic of an element", "RSTM-6")
    elif kind == "packed" and type_ in MAGICS and size:
        yield from _message(pieces, MAGICS[type_], f"magic of a packed {type_}", "COLL-9")
    elif kind == "element" and type_ in ("hash", "list"):
        name, clause = {"hash": ("value", "RHAS-1"), "list": ("item", "RLIS-5")}[type_]
        yield from pieces.cut(size, with_content(name, pieces.data, size), clause)
    else:
        clause = UNREAD.get((type_, kind), UNREAD.get(("", kind), "TYPE-1"))
        yield from pieces.cut(size, with_content("body, which is not looked at", pieces.data, size), clause)


def _number(pieces: Pieces, name: str, letter: str, clause: str) -> Iterator[Field]:
    """Yield a number of eight bytes, if anything of it is there."""
    data = pieces.data[:8]
    if not data:
        return
    number = struct.unpack(f">{letter}", data)[0] if len(data) == 8 else ""
    words = f"{name} {number}"
    if name == "expiry" and isinstance(number, int):
        clause, words = "COLL-4", f"expiry {number}{time_of(number)}" if number else "expiry: none"
    yield from pieces.cut(8, words.rstrip(), clause)


def _message(pieces: Pieces, magic: bytes, words: str, clause: str) -> Iterator[Field]:
    """Yield a magic and the fields of a message, as far as they are there. [COLL-10]"""
    if not pieces.data.startswith(magic):
        yield from pieces.rest(f"not the {words}", clause)
        return
    yield from pieces.cut(len(magic), words, clause)
    while pieces.data:
        tag, at = _varint(pieces.data)
        wire_type = tag & 7
        size = SIZES.get(wire_type, 0)
        if wire_type == 2:
            size, more = _varint(pieces.data[at:])
            at += more
        elif wire_type == 0:
            at += _varint(pieces.data[at:])[1]
        value = with_content("", pieces.data[at:], size).lstrip(" ") if size else ""
        if at == 0 or wire_type not in (0, 1, 2, 5):
            break
        yield from pieces.cut(at + size, f"field {tag >> 3}, wire type {wire_type} {value}".rstrip(), "COLL-10")
    yield from pieces.rest("the rest of the message", "COLL-10")


def _varint(data: bytes) -> tuple[int, int]:
    """Return a varint and its size in bytes; 0 for the size if it is cut or too long."""
    number = 0
    for place, byte in enumerate(data[:10]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, place + 1
    return 0, 0
