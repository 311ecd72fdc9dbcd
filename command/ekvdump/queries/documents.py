"""The blobs of collections as a dump has them, read element by element. [READ-35]

A document has one member or item on a line, so that no more than one element of it has to
be held: what stands at an indent of four spaces is an element, or begins or ends one.
"""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from typing import IO, Any, Final, NamedTuple

from ekvformat import keys

from ekvdump.queries.keys import Element
from ekvdump.verify.findings import Finding

LISTS: Final = {keys.HASH: b"fields", keys.LIST: b"items", keys.SET: b"members", keys.ZSET: b"members"}
"""Type = what its document calls the list of elements."""
BEGIN: Final = b'{\n  "format_version": 1,\n  "%b": ['
"""What a document begins with; then the line ends, or the list does. [COLL-18]"""
ELEMENT_END: Final = re.compile(rb"    (?:\}|[^ {].*?),?\n", re.DOTALL)
"""The line that ends an element: a closing brace, or an element of one line."""
TAIL_SIZE: Final = 256
"""Bytes at the end of a blob that have its expiry, at least."""
EXPIRY: Final = re.compile(rb'"expire_at_ms": ?(null|[0-9]{1,20})\n?\}\n?\Z')
LAST_ID: Final = re.compile(rb'"last_ms":([0-9]{1,20}),"last_seq":([0-9]{1,20}),')


class Number(str):
    """A number as it is written."""

    __slots__ = ()


class End(NamedTuple):
    """What a blob says at its end."""

    expiry_ms: int | None
    """Unix ms."""
    last_id: tuple[int, int]
    """Of a stream. [RSTM-9]"""


def invalid(path: str) -> Finding:
    """Return the finding of a blob that is not what a decoder would have written."""
    return Finding("invalid-document", "READ-35", "this is not the blob of a collection", None, path)


def read_end(file: IO[bytes], size: int, path: str) -> End:
    """Read what stands at the end of a blob of so many bytes. Raises `invalid-document`."""
    file.seek(max(0, size - TAIL_SIZE))
    tail = file.read(TAIL_SIZE)
    match = EXPIRY.search(tail)
    if match is None:
        raise invalid(path)
    found = LAST_ID.search(tail)
    last_id = (int(found[1]), int(found[2])) if found else (0, 0)
    return End(None if match[1] == b"null" else int(match[1]), last_id)


def iter_blob_elements(file: IO[bytes], type_: str, path: str) -> Iterator[Element]:
    """Yield the elements of a blob. Raises `invalid-document`."""
    texts = _iter_lines(file) if type_ == keys.STREAM else _iter_items(file, type_, path)
    for text in texts:
        try:
            # Numbers stay as they are written: no score changes on the way. [RZSE-6]
            element = element_of(json.loads(text, parse_int=Number, parse_float=Number), type_)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise invalid(path) from error
        yield element


def _iter_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a stream but the last one."""
    previous: bytes | None = None
    for line in file:
        if previous is not None:
            yield previous
        previous = line


def _iter_items(file: IO[bytes], type_: str, path: str) -> Iterator[bytes]:
    """Yield the text of each element of a document."""
    begin = BEGIN % LISTS[type_]
    if file.read(len(begin)) != begin:
        raise invalid(path)
    # A list without elements ends on the line that it begins on.
    if (rest := file.readline()) == b"],\n":
        return
    if rest != b"\n":
        raise invalid(path)
    item = bytearray()
    for line in file:
        if line == b"  ],\n" and not item:
            return
        item += line
        if ELEMENT_END.fullmatch(line):
            yield bytes(item).rstrip(b",\n")
            item.clear()
    raise invalid(path)


def element_of(value: Any, type_: str) -> Element:
    """Return an element as it is given out. Raises `ValueError`, `KeyError`, `TypeError` or `AttributeError`."""
    if type_ == keys.HASH:
        return bytes_of(value["name"]), bytes_of(value["value"])
    if type_ == keys.ZSET:
        score = value["score"]
        if not isinstance(score, Number) and score not in ("+inf", "-inf"):
            raise ValueError(score)
        return score.encode(), bytes_of(value["member"])
    if type_ == keys.STREAM:
        texts = [each[name].encode() for each in value["fields"] for name in ("name", "value")]
        return value["id"].encode(), *texts
    return (bytes_of(value),)


def bytes_of(value: Any) -> bytes:
    """Return bytes as a document has them. [COLL-19]"""
    if isinstance(value, Number):
        raise TypeError(value)
    if isinstance(value, str):
        return value.encode()
    return urlsafe_b64decode(value["base64"] + "==")
