r"""Reads and renders snapshots as text: annotated hex, and descriptions.

Annotated hex: bytes in hex, two spaces, and what they are.

    45 4B 56 50 42 42 4C 31  payload magic `EKVPBBL1`
    1E 00 00 00 00 00 00 00  last commit 30

A description is a table of these members, all but `entries` with a default:

    member       value
    -----------  ------------------------------------------------------------
    header       "v1" (default), "v2", "none", or any bytes
    last_commit  number, default 1000
    entries      list of entries, see below; they are sorted
    footer       true (default), false, or any bytes
    cut          number of bytes to remove at the end, default 0
    append       bytes to add at the end, default none

    entry        value
    -----------  ------------------------------------------------------------
    key, ts      storage key and commit timestamp
    body         bytes of the value behind its header, default none
    tombstone    true if it is one
    flags        number, default 0; `tombstone` sets bit 0
    expire_at    number, in the store's clock, default 0
    body_times   how often the body is repeated, default 1
    times        number of such entries, default 1; if given, {n} in key and body is
                 replaced by 000000, 000001 .., {x} by as many x, {f} by as many FF
    from         the first of these numbers, default 0
    versions     number of versions of this key, at ts, ts - 1 .., default 1
    raw_key,     encoded key and encoded value, in place of all other
    raw_value    members

Bytes are text in UTF-8 with `\xHH` for any byte and `\\` for a backslash.
"""

import heapq
import re
import struct
from collections.abc import Iterable, Iterator
from typing import IO, Any, Final, NamedTuple

import google_crc32c

from ekvconform.cases.errors import UsageError
from ekvconform.cases.writer import HEADER_V1, Entry, encoded_entry, footer, header_v2, payload_start, put

ENTRY_MEMBERS: Final = {
    "key",
    "ts",
    "body",
    "tombstone",
    "flags",
    "expire_at",
    "raw_key",
    "raw_value",
    "note",
    "times",
    "from",
    "versions",
    "body_times",
}
MIN_DIGITS: Final = 6
HEADERS: Final = {"v1": HEADER_V1, "v2": header_v2(), "none": b""}
ESCAPE: Final = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|(\\))")
KNOWN_PREFIX: Final = re.compile(rb"!(?:[a-z0-9-]+\|)+(?:meta\|d\||meta\|)?|_meta_[a-z_]+")


class Piece(NamedTuple):
    """Some bytes of a snapshot, with a note."""

    data: bytes
    note: str


class BadDescriptionError(UsageError):
    """Raised for a description or annotated hex that is not valid; says what and where."""


def decode_bytes(text: str) -> bytes:
    r"""Decode a text with `\xHH`."""
    if "\\" not in text:
        return text.encode()
    if re.search(r"\\(?!x[0-9A-Fa-f]{2}|\\)", ESCAPE.sub("", text)):
        raise BadDescriptionError(f"{text!r}: a backslash must be followed by `xHH` or another backslash")
    pieces, place = [], 0
    for match in ESCAPE.finditer(text):
        pieces += [text[place : match.start()].encode(), bytes.fromhex(match[1]) if match[1] else b"\\"]
        place = match.end()
    return b"".join([*pieces, text[place:].encode()])


def render_bytes(data: bytes) -> str:
    r"""Render bytes for `decode_bytes`: printable ASCII as it is, the rest as `\xHH`."""
    return "".join("\\\\" if byte == 0x5C else chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02X}" for byte in data)


def decode_hex(text: str) -> bytes:
    """Decode annotated hex."""
    found = bytearray()
    for number, line in enumerate(text.splitlines(), 1):
        digits = line.split("  ")[0]
        try:
            found += bytes.fromhex(digits)
        except ValueError:
            raise BadDescriptionError(f"line {number}: {digits!r} is not hex; two spaces end the bytes") from None
    return bytes(found)


def render_hex(pieces: Iterable[Piece], width: int = 16) -> str:
    """Render annotated hex, with at most `width` bytes on a line."""
    lines = []
    for data, note in pieces:
        rows = [data[place : place + width] for place in range(0, len(data), width)] or [b""]
        for number, row in enumerate(rows):
            words = note if number == 0 else "..."
            lines.append(f"{row.hex(' ').upper():<{3 * width - 1}}  {words}".rstrip())
    return "\n".join(lines) + "\n"


def describe_snapshot(description: dict[str, Any]) -> list[Piece]:
    """Make the pieces of a described snapshot. Raises `BadDescriptionError`."""
    try:
        return _describe(description)
    except (TypeError, AttributeError, struct.error) as error:
        raise BadDescriptionError(f"a member of an unexpected type: {error}") from error


def _describe(description: dict[str, Any]) -> list[Piece]:
    unknown = set(description) - {"header", "last_commit", "entries", "footer", "cut", "append"}
    if unknown:
        raise BadDescriptionError(f"unknown members: {', '.join(sorted(unknown))}")
    header = description.get("header", "v1")
    if header not in HEADERS and re.fullmatch("v[0-9]|[a-z]+", header):
        raise BadDescriptionError(f"header is {header!r}: one of {', '.join(HEADERS)}, or any bytes")
    last_commit = description.get("last_commit", 1000)
    pieces = _header_pieces(HEADERS[header] if header in HEADERS else decode_bytes(header))
    start = payload_start(last_commit)
    pieces += [Piece(start[:8], "payload magic `EKVPBBL1`"), Piece(start[8:], f"last commit {last_commit}")]
    for entry, words in _iter_in_order(description):
        pieces += _entry_pieces(entry, words)
    before = b"".join(piece.data for piece in pieces)
    wanted = description.get("footer", True)
    if wanted is True:
        pieces.append(Piece(footer(before), f"footer: CRC-32C of the {len(before)} bytes before"))
    elif wanted is not False:
        pieces.append(Piece(decode_bytes(wanted), "in the place of a footer"))
    pieces = _cut(pieces, description.get("cut", 0))
    added = decode_bytes(description.get("append", ""))
    return [*pieces, Piece(added, "added at the end")] if added else pieces


def write_snapshot(description: dict[str, Any], file: IO[bytes]) -> None:
    """Write the snapshot of a description, entry by entry. Raises `BadDescriptionError` and `OSError`."""
    require_described(description)
    start = b"".join(piece.data for piece in describe_snapshot({**description, "entries": [], "footer": False}))
    file.write(start)
    checksum = google_crc32c.value(start)
    for entry, _ in _iter_in_order(description):
        data = encoded_entry(entry)
        file.write(data)
        checksum = google_crc32c.extend(checksum, data)
    if description.get("footer", True):
        file.write(checksum.to_bytes(4, "big"))


def require_described(description: dict[str, Any]) -> None:
    """Raise `BadDescriptionError` if a snapshot cannot be generated entry by entry."""
    for name in ("cut", "append"):
        if name in description:
            raise BadDescriptionError(f"a generated snapshot must not have {name}")
    if not isinstance(description.get("footer", True), bool):
        raise BadDescriptionError("the footer of a generated snapshot must be true or false")
    for number, entry in enumerate(description.get("entries", []), 1):
        next(_iter_entries(number, entry), None)


def _iter_in_order(description: dict[str, Any]) -> Iterator[tuple[Entry, dict[str, Any]]]:
    """Yield all entries, with their descriptions, in order. Raises `BadDescriptionError`."""
    runs = [
        ((make_entry(each), each) for each in _iter_entries(number, entry))
        for number, entry in enumerate(description.get("entries", []), 1)
    ]
    previous = b""
    for entry, words in heapq.merge(*runs, key=lambda each: each[0]):
        if entry[0] < previous:
            raise BadDescriptionError(f"{words}: not in order; its keys do not sort as its numbers")
        previous = entry[0]
        yield entry, words


def numbered(text: str, number: int, digits: int = MIN_DIGITS) -> str:
    r"""Replace {n} in a text by the number, padded to `digits`, {x} by as many x, and {f} by as many `\xFF`."""
    for placeholder, one in (("{x}", "x"), ("{f}", r"\xFF")):
        if placeholder in text:
            text = text.replace(placeholder, one * number)
    return text.replace("{n}", f"{number:0{digits}}") if "{n}" in text else text


def _iter_entries(number: int, description: Any) -> Iterator[dict[str, Any]]:
    """Yield the entries of a description, in order. Raises `BadDescriptionError`."""
    if not isinstance(description, dict):
        raise BadDescriptionError(f"entry {number}: {description!r} is not a table")
    unknown = set(description) - ENTRY_MEMBERS
    if unknown:
        raise BadDescriptionError(f"entry {number}: unknown members: {', '.join(sorted(unknown))}")
    for name in ("ts", "flags", "expire_at", "body_times", "times", "from", "versions"):
        if type(value := description.get(name, 0)) is not int or not 0 <= value < 1 << (8 if name == "flags" else 64):
            raise BadDescriptionError(f"entry {number}: {name} is {value!r}")
    if "versions" in description:
        # Older versions sort later.
        yield from ({**description, "ts": description["ts"] - each} for each in range(description["versions"]))
        return
    if "times" not in description:
        yield description
        return
    first = description.get("from", 0)
    numbers = range(first, first + description["times"])
    digits = max(MIN_DIGITS, len(str(numbers.stop - 1)))
    # If one key is a prefix of another, the longer one sorts first, since a version suffix begins with FF.
    for each in reversed(numbers) if "{x}" in description.get("key", "") else numbers:
        texts = {name: numbered(description[name], each, digits) for name in ("key", "body") if name in description}
        yield description | texts


def _cut(pieces: list[Piece], size: int) -> list[Piece]:
    """Remove bytes at the end."""
    kept = list(pieces)
    if not 0 <= size <= sum(len(piece.data) for piece in pieces):
        raise BadDescriptionError(f"cut is {size}, but the snapshot is smaller")
    while size and kept:
        data, note = kept.pop()
        if size < len(data):
            kept.append(Piece(data[:-size], f"{note}: cut, {size} bytes are missing"))
            return kept
        size -= len(data)
    return kept


def make_entry(description: dict[str, Any]) -> Entry:
    """Make an entry from its description. Raises `BadDescriptionError`."""
    try:
        if "raw_key" in description:
            return decode_bytes(description["raw_key"]), decode_bytes(description["raw_value"])
        key, ts = decode_bytes(description["key"]), description["ts"]
        flags = description.get("flags", 0) | description.get("tombstone", False)
        body = decode_bytes(description.get("body", "")) * description.get("body_times", 1)
        return put(key, ts, body, flags=flags, expire_at=description.get("expire_at", 0))
    except KeyError as missing:
        raise BadDescriptionError(f"an entry without {missing}: {description}") from None


def _header_pieces(header: bytes) -> list[Piece]:
    if header == HEADER_V1:
        return [Piece(header[:8], "header magic `EKVTHLC1`"), Piece(header[8:], "ceiling_ms")]
    if header[:8] == b"EKVTHLC2":
        size = int.from_bytes(header[8:10], "big")
        known = [
            Piece(header[:8], "header magic `EKVTHLC2`"),
            Piece(header[8:10], f"size {size}"),
            Piece(header[10:18], "ceiling_ms"),
            Piece(header[18:26], "cutover_index"),
            Piece(header[26:], "extension"),
        ]
        return [piece for piece in known if piece.data]
    return [Piece(header, "in the place of a header")] if header else []


def _entry_pieces(entry: Entry, words: dict[str, Any]) -> list[Piece]:
    key, value = entry
    pieces = [Piece(len(key).to_bytes(8, "little"), f"key size {len(key)}")]
    if "raw_key" in words:
        pieces.append(Piece(key, f"key `{render_bytes(key)}`"))
    else:
        storage_key = key[:-8]
        match = KNOWN_PREFIX.match(storage_key)
        prefix = match[0] if match else b""
        if prefix:
            pieces.append(Piece(prefix, f"`{prefix.decode()}`"))
        if storage_key[len(prefix) :] or not prefix:
            shown = render_bytes(storage_key[len(prefix) :][:40])
            pieces.append(Piece(storage_key[len(prefix) :], f"`{shown}`"))
        pieces.append(Piece(key[-8:], f"version suffix: NOT {words['ts']}"))
    pieces.append(Piece(len(value).to_bytes(8, "little"), f"value size {len(value)}"))
    if "raw_key" in words:
        pieces.append(Piece(value, "value"))
    else:
        kind = "tombstone" if value[0] & 1 else "clear" if value[0] == 0 else f"{value[0]:08b}"
        pieces.append(Piece(value[:1], f"flags: {kind}"))
        expire_at = int.from_bytes(value[1:9], "little")
        pieces.append(Piece(value[1:9], f"expire_at {expire_at or 'none'}"))
        if value[9:]:
            pieces.append(Piece(value[9:], words.get("note") or f"body `{render_bytes(value[9:][:40])}`"))
    return [piece for piece in pieces if piece.data]
