"""The fields of a snapshot, each with its name, its meaning and its clause.

A field is cut into pieces where the spec does: sizes, storage key, version suffix, value
header, and what is in the body of a string, an HLL, a TTL record or a record of a collection. Of
a long field only the beginning is needed, so that a value of 256 MiB is explained as fast as an empty one.
"""

import struct
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final

from ekvexplain.clauses import SPEC
from ekvexplain.collection_fields import iter_body_fields, iter_key_fields, shape_of
from ekvexplain.pieces import SHOWN_SIZE, Field, Pieces, printable, time_of, with_content

FILE_HEADER_SIZES: Final = {b"EKVTHLC1": 16, b"EKVTHLC2": 26}
"""Magic of a file header = its size, without an extension. [FILE-1] [FILE-2]"""
START_SIZE: Final = 8 + 2 + 1024 + 8 + 8
"""Bytes of the largest file header, the payload magic and the last commit."""
FOOTER_SIZE: Final = 4
NOT_WHOLE: Final = "not a whole entry"
"""What a broken file ends with."""
HEAD_SIZE: Final = 64
"""Bytes of an encoded value that are enough to explain it."""
VERSION_SUFFIX_SIZE: Final = 8
VALUE_HEADER_SIZE: Final = 9
TOMBSTONE: Final = 0b0000_0001
ENCRYPTION_STATES: Final = ("clear", "encrypted", "reserved encryption state", "reserved encryption state")
ENVELOPES: Final = {"string": b"\xff\x01", "hll": b"\xff\x02"}
"""Type = how an envelope of it begins. [ENVL-1] [ENVL-2]"""
OPERATIONAL: Final = (
    b"_meta_last_commit_ts", b"_meta_min_retained_ts", b"_meta_pending_min_retained_ts", b"_meta_applied_index"
)  # fmt: skip
"""Encoded keys of operational entries, with a value of eight bytes. [VISI-7]"""
WRITERS: Final = b"!encryption|writers|"
"""Begins the encoded key of the other operational entries. [VISI-8]"""


@cache
def load_prefixes() -> dict[bytes, str]:
    """Return prefix = type, longest first. [KEYS-1]"""
    table = tomllib.loads((SPEC / "companions" / "keys.toml").read_text(encoding="utf-8"))
    pairs = [(prefix.encode(), type_) for group in table.values() for type_, names in group.items() for prefix in names]
    return dict(sorted(pairs, key=lambda pair: -len(pair[0])))


def type_of(storage_key: bytes) -> tuple[str, bytes]:
    """Return the type of a storage key, and the prefix that tells it. [KEYS-1] [KEYS-3] [KEYS-8]"""
    for prefix, type_ in load_prefixes().items():
        if storage_key.startswith(prefix):
            return type_, prefix
    return ("unknown", b"!") if storage_key.startswith(b"!") else ("bare", b"")


def is_operational(key: bytes, value_size: int) -> bool:
    """Predicate: is it an entry of the node's own? [VISI-7] [VISI-8]"""
    if key in OPERATIONAL:
        return value_size == 8
    return value_size == 12 and len(key) == 27 and key.startswith(WRITERS) and key[24:25] == b"|"


def iter_start_fields(data: bytes) -> Iterator[Field]:
    """Yield the fields before the first entry; `data` is the beginning of a snapshot, or the whole of it."""
    pieces = Pieces(data, 0, len(data))
    magic = data[:8]
    if magic in FILE_HEADER_SIZES:
        version = magic[7:].decode()
        yield from pieces.cut(8, f"magic of a file header of version {version}", f"FILE-{version}")
        if version == "2":
            size = int.from_bytes(data[8:10], "big")
            yield from pieces.cut(2, f"size {size}", "FILE-2")
        yield from pieces.cut(8, f"ceiling_ms {_number(pieces.data, 'big')}", f"FILE-{version}")
        if version == "2":
            yield from pieces.cut(8, f"cutover_index {_number(pieces.data, 'big')}", "FILE-2")
            if size > 16:
                yield from pieces.cut(size - 16, "extension", "FILE-3")
    names = {b"EKVPBBL1": ("payload magic", "FILE-6"), b"EKVSSTI1": ("magic of an ingest stream", "FILE-7")}
    words, clause = names.get(pieces.data[:8], ("not a magic", "FILE-8"))
    yield from pieces.cut(8, words, clause)
    if clause == "FILE-6":
        yield from pieces.cut(8, f"last_commit_ts {_number(pieces.data, 'little')}", "FILE-6")


def iter_entry_fields(offset: int, key: bytes, value_head: bytes, value_size: int) -> Iterator[Field]:
    """Yield the fields of an entry.

    `offset` is where it begins, in bytes; `value_head` has the first `HEAD_SIZE` bytes of the
    encoded value, or all of it.
    """
    value_offset = offset + 8 + len(key) + 8
    yield Field(offset, struct.pack("<Q", len(key)), 8, f"key size {len(key)}", "FILE-11")
    pieces = Pieces(key, offset + 8, len(key))
    if is_operational(key, value_size):
        name, clause = ("writers", "VISI-8") if key.startswith(WRITERS) else (printable(key, SHOWN_SIZE), "VISI-7")
        yield from pieces.rest(f"key of an operational entry: {name}", clause)
        yield Field(value_offset - 8, struct.pack("<Q", value_size), 8, f"value size {value_size}", "FILE-11")
        number = f" {int.from_bytes(value_head, 'little')}" if value_size == 8 else ""
        yield Field(value_offset, value_head, value_size, f"value{number}", "VISI-9")
        return
    storage_key = key[:-VERSION_SUFFIX_SIZE]
    type_, prefix = type_of(storage_key)
    shape = shape_of(prefix, value_size - VALUE_HEADER_SIZE)
    if shape is not None:
        prefix = shape[0]
    if len(key) >= VERSION_SUFFIX_SIZE:
        if prefix not in (b"", b"!"):
            yield from pieces.cut(len(prefix), f"prefix `{prefix.decode()}`: {type_}", "KEYS-1")
        name = "user key" if type_ in ("string", "hll", "ttl", "bare") else "rest of the storage key"
        clause = "KEYS-3" if type_ == "bare" else "KEYS-8" if type_ == "unknown" else "VISI-1"
        rest = storage_key[len(prefix) if prefix != b"!" else 0 :]
        if shape is not None:
            yield from iter_key_fields(pieces, type_, shape[1], len(rest))
        else:
            yield from pieces.cut(len(rest), f"{name} {printable(rest, SHOWN_SIZE)}, of the type {type_}", clause)
        commit_ts = int.from_bytes(key[-8:], "big") ^ 0xFFFF_FFFF_FFFF_FFFF
        yield from pieces.cut(VERSION_SUFFIX_SIZE, f"version suffix: committed at {commit_ts}", "VISI-1")
    else:
        yield from pieces.rest("a key without room for a version suffix", "VISI-1")
    yield Field(value_offset - 8, struct.pack("<Q", value_size), 8, f"value size {value_size}", "FILE-11")
    kind = None if shape is None else shape[1]["kind"]
    yield from _value_fields(type_, kind, value_offset, value_head, value_size)


def _value_fields(type_: str, kind: str | None, offset: int, head: bytes, size: int) -> Iterator[Field]:
    pieces = Pieces(head, offset, size)
    if size < VALUE_HEADER_SIZE:
        yield from pieces.rest("a value without room for its header", "VISI-2")
        return
    flags = head[0]
    state = ENCRYPTION_STATES[flags >> 1 & 3]
    words = [state, *(["tombstone"] if flags & TOMBSTONE else []), *(["reserved bits"] if flags >> 3 else [])]
    clause = {"clear": "VISI-2", "encrypted": "VISI-5"}.get(state, "VISI-4")
    yield from pieces.cut(1, f"flags: {', '.join(words)}", "VISI-3" if flags >> 3 else clause)
    expire_at = int.from_bytes(head[1:9], "little")
    yield from pieces.cut(8, f"expire_at {expire_at or 'none'}", "VISI-13")
    body = head[VALUE_HEADER_SIZE:]
    body_size = size - VALUE_HEADER_SIZE
    if type_ in ENVELOPES and body.startswith(ENVELOPES[type_]):
        yield from _envelope_fields(pieces, type_, body, body_size)
    elif kind is not None:
        yield from iter_body_fields(pieces, type_, kind, body_size)
    elif type_ == "ttl":
        expiry_ms = int.from_bytes(body[:8], "big")
        sound = body_size == 8
        yield from pieces.rest(
            f"expiry {expiry_ms}{time_of(expiry_ms)}" if sound else "a malformed TTL record: not eight bytes", "RTTL-1"
        )
    else:
        name, clause = {
            "string": ("legacy body", "ENVL-3"), "hll": ("legacy body", "ENVL-3"), "bare": ("payload", "RSTR-3"),
        }.get(type_, ("body", "VISI-2"))  # fmt: skip
        yield from pieces.cut(body_size, with_content(name, body, body_size), clause)


def _envelope_fields(pieces: Pieces, type_: str, body: bytes, size: int) -> Iterator[Field]:
    yield from pieces.cut(2, f"envelope of {'a string' if type_ == 'string' else 'an HLL'}", f"ENVL-{body[1]}")
    if size < 3:
        yield Field(pieces.offset, b"", 0, "flags (cut)", "ENVL-4")
        return
    has_expiry = bool(body[2] & 1)
    words = "HAS_EXPIRY" if has_expiry else "no expiry"
    yield from pieces.cut(1, f"flags: {words}", "ENVL-5" if has_expiry else "ENVL-4")
    if has_expiry:
        expiry_ms = int.from_bytes(body[3:11], "big")
        yield from pieces.cut(8, f"expiry {expiry_ms}{time_of(expiry_ms)}" if size >= 11 else "expiry", "ENVL-5")
    if not has_expiry or size >= 11:
        left = pieces.end - pieces.offset
        yield from pieces.cut(left, with_content("payload", pieces.data, left), "ENVL-9")


def footer_field(offset: int, data: bytes) -> Field:
    """Return the footer; `data` has its bytes. [FILE-17]"""
    return Field(offset, data, len(data), f"footer: CRC-32C {data.hex()} of the {offset} bytes before", "FILE-18")


def iter_snapshot_fields(data: bytes) -> Iterator[Field]:
    """Yield all fields of a snapshot in memory, as far as they can be read, and what is left of a broken one."""
    at = 0
    for field in iter_start_fields(data[:START_SIZE]):
        at = field.offset + field.size
        yield field
        if field.words.startswith("last_commit_ts"):
            break
    while len(data) - at not in (0, FOOTER_SIZE):
        key_size = int.from_bytes(data[at : at + 8], "little")
        value_at = at + 8 + key_size + 8
        value_size = int.from_bytes(data[value_at - 8 : value_at], "little")
        if len(data) < value_at + value_size:
            yield Field(at, data[at : at + HEAD_SIZE], len(data) - at, NOT_WHOLE, "FILE-15")
            return
        head = data[value_at : value_at + min(HEAD_SIZE, value_size)]
        yield from iter_entry_fields(at, data[at + 8 : value_at - 8], head, value_size)
        at = value_at + value_size
    if at < len(data):
        yield footer_field(at, data[at:])


def piece_at(fields: Iterable[Field], offset: int) -> list[Field]:
    """Return the fields of the entry that an offset is in, or of what precedes or follows the entries.

    The end of a file belongs to what is before it: that is where a cut is.
    """
    piece: list[Field] = []

    def reaches(end: int) -> bool:
        return bool(piece) and piece[0].offset <= offset < piece[-1].offset + piece[-1].size + end

    for field in fields:
        if field.words.startswith(("key size ", "footer: ", NOT_WHOLE)):
            if reaches(0):
                return piece
            piece = []
        piece.append(field)
    return piece if reaches(1) else []


def _number(data: bytes, order: str) -> int | str:
    return int.from_bytes(data[:8], "little" if order == "little" else "big") if len(data) >= 8 else ""


# ---- annotated hex ----

BYTES_OF_A_LINE: Final = 16
LINES_OF_A_FIELD: Final = 3
"""Most lines of hex that one field gets."""


def render_field(field: Field, mark: int | None = None) -> Iterator[str]:
    """Yield the lines of a field; the field with the offset `mark` has a `>` in front.

    A line has the offset, up to sixteen bytes, and on the first one what they are.
    """
    shown = field.data[: BYTES_OF_A_LINE * LINES_OF_A_FIELD]
    marked = mark is not None and (field.offset == mark or field.offset <= mark < field.offset + field.size)
    note = f"{field.words} [{field.clause}]" if field.clause else field.words
    for at in range(0, len(shown), BYTES_OF_A_LINE) if shown else (0,):
        row = shown[at : at + BYTES_OF_A_LINE].hex(" ").upper()
        line = f"{'>' if marked else ' '} {field.offset + at:>9}  {row:<47}  {note if at == 0 else ''}"
        yield line.rstrip()
    if field.size > len(shown):
        yield f"  {'':>9}  .. and {field.size - len(shown)} more bytes"
