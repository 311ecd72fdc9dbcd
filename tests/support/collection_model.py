"""What collections must become, said the naive way, from the spec alone; imports nothing of the decoders.

Every rule stands in the order of the chapters TYPE, COLL, RHAS, RLIS, RSET, RZSE and RSTM.
"""

import base64
import json
import math
import struct
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

TABLE = tomllib.loads((Path(__file__).resolve().parents[2] / "spec" / "companions" / "user_keys.toml").read_text())
MOST_MS = 9_223_372_036_854_775_807
TYPES = ("hash", "list", "set", "zset", "stream")
DIRECTORIES = {
    "hash": "hashes",
    "list": "lists",
    "set": "sets",
    "zset": "zsets",
    "stream": "streams",
}
SUFFIXES = {"stream": ".jsonl"}

Records = dict[bytes, tuple[bytes, int, bytes]]
"""Suffix -> body, its offset, and the storage key."""
Kinds = dict[str, Records]


class BadRecordError(Exception):
    """A record that no client could read: clause, offset, storage key, body."""


class Shown(NamedTuple):
    """A collection as it is shown."""

    content: bytes
    unread: int


def place(storage_key: bytes, size: int) -> tuple[str, bytes, bytes] | None:
    """Kind, user key and suffix; None for a stray. [TYPE-1] [TYPE-2]"""
    prefix = max((p for p in TABLE["shapes"] if storage_key.startswith(p.encode())), key=len)
    if prefix == "!lst|meta|d|" and size in (24, 32):
        prefix = "!lst|meta|"  # [TYPE-3]
    shape = TABLE["shapes"][prefix]
    rest = storage_key[len(prefix) :]
    if shape["sized"]:
        if len(rest) < 4:
            return None
        user_size = int.from_bytes(rest[:4], "big")
        rest = rest[4:]
        if len(rest) < user_size:
            return None
        user_key, suffix = rest[:user_size], rest[user_size:]
        if "suffix" in shape and len(suffix) != shape["suffix"]:
            return None
        return shape["kind"], user_key, suffix
    if len(rest) < shape["suffix"]:
        return None
    cut = len(rest) - shape["suffix"]
    return shape["kind"], rest[:cut], rest[cut:]


def sort_out(
    found: dict[str, dict[bytes, tuple[bytes, int]]],
) -> tuple[dict[bytes, dict[str, Kinds]], dict[str, int]]:
    """User key -> type -> kind -> records; and how many strays each type has."""
    by_key: dict[bytes, dict[str, Kinds]] = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    strays = dict.fromkeys(TYPES, 0)
    for type_ in TYPES:
        for storage_key, (body, offset) in found.get(type_, {}).items():
            where = place(storage_key, len(body))
            if where is None:
                strays[type_] += 1
            else:
                kind, user_key, suffix = where
                by_key[user_key][type_][kind][suffix] = body, offset, storage_key
    return by_key, strays


def type_of_key(values: set[str], by_type: dict[str, Kinds]) -> str | None:
    """The first line of the table that fits; `values` are those of string, hll and bare. [TYPE-4]"""
    for line in TABLE["precedence"]["lines"]:
        if line["kinds"] == ["value"]:
            if line["type"] in values:
                return str(line["type"])
        elif any(by_type.get(line["type"], {}).get(kind) for kind in line["kinds"]):
            return str(line["type"])
    return None


def own_meta(kinds: Kinds) -> tuple[bytes, int, bytes] | None:
    """The meta, of which there is at most one."""
    return next(iter(kinds.get("meta", {}).values()), None)


def decides_alone(type_: str, kinds: Kinds) -> bool:
    """Whether there is a meta with the field `expiry`. [COLL-4]"""
    meta = own_meta(kinds)
    return meta is not None and len(meta[0]) >= {"list": 32, "stream": 32}.get(type_, 16)


def first_record(kinds: Kinds) -> tuple[bytes, int, bytes]:
    """The first in the order in which they are judged. [COLL-17]"""
    for kind in ("meta", "delta", "element", "packed"):
        for suffix in sorted(kinds.get(kind, {})):
            return kinds[kind][suffix]
    raise AssertionError(kinds)


def bad(clause: str, record: tuple[bytes, int, bytes], offset: int | None = None) -> BadRecordError:
    """[COLL-16]"""
    body, own, storage_key = record
    return BadRecordError(clause, own if offset is None else offset, storage_key, body)


def show(type_: str, kinds: Kinds, row: bytes | None) -> Shown:
    """Show a collection; `row` is its TTL record. Raises `BadRecordError`."""
    length, meta_expiry, numbers = read_meta(type_, kinds)
    expiry = None if row is None or len(row) != 8 else min(MOST_MS, int.from_bytes(row, "big"))
    if decides_alone(type_, kinds):
        expiry = min(MOST_MS, meta_expiry) or None
    elements = {suffix: kinds["element"][suffix] for suffix in sorted(kinds.get("element", {}))}
    if type_ == "list":
        return show_list(kinds, elements, length, numbers[0], expiry)
    if type_ == "stream":
        return show_stream(kinds, elements, length, numbers, expiry)
    packed = next(iter(kinds.get("packed", {}).values()), None)
    unread = len(kinds.get("index", {}))
    scores: list[str] = []
    items: list[Any] = []
    if type_ == "hash":
        fields = {name: record[0] for name, record in elements.items()}
        if not elements and packed:
            fields = {name: value for name, value, _ in read_packed(packed, b"RH", "hash")}
        items = [{"name": text(name), "value": text(fields[name])} for name in sorted(fields)]
    elif type_ == "set":
        members = set(elements)
        if not elements and packed:
            members = {name for name, _, _ in read_packed(packed, b"RS", "set")}
        items = [text(member) for member in sorted(members)]
    else:
        scored = {member: score_of(record) for member, record in elements.items()}
        if not elements and packed:
            scored = {name: score for name, _, score in read_packed(packed, b"RZ", "zset")}
        for member in sorted(scored):
            items.append({"member": text(member), "score": f"\1{len(scores)}\1"})
            scores.append(number(scored[member]))
    return Shown(document("fields" if type_ == "hash" else "members", items, expiry, scores), unread)


def read_meta(type_: str, kinds: Kinds) -> tuple[int, int, list[int]]:
    """Length, expiry (0 for none), and what else is in a meta. [COLL-1] [COLL-2] [RLIS-1] [RSTM-1]"""
    record = own_meta(kinds)
    if record is None:
        return 0, 0, [0, 0, -1, -1]
    body, offset, _ = record
    sizes, clause, at = {"list": ((24, 32), "RLIS-1", 16), "stream": ((24, 32, 48), "RSTM-1", 0)}.get(
        type_, ((8, 16), "COLL-1", 0)
    )
    if len(body) not in sizes:
        raise bad(clause, record)
    words = [int.from_bytes(body[place : place + 8], "big") for place in range(0, len(body), 8)]
    length = words[at // 8]
    if length > MOST_MS:
        raise bad("COLL-2", record, offset + at)
    if type_ == "list":
        head, tail = (word - 2**64 if word >= 2**63 else word for word in words[:2])
        if tail != head + length:
            raise bad("RLIS-1", record, offset + 8)
        return length, words[3] if len(words) == 4 else 0, [head]
    if type_ == "stream":
        return length, words[3] if len(words) > 3 else 0, words[1:3] + (words[4:6] if len(words) == 6 else [-1, -1])
    return length, words[1] if len(words) == 2 else 0, []


def show_list(kinds: Kinds, elements: Records, length: int, head: int, expiry: int | None) -> Shown:
    """[RLIS-2] to [RLIS-7]"""
    for suffix in sorted(kinds.get("delta", {})):
        record = kinds["delta"][suffix]
        if len(record[0]) != 16:
            raise bad("RLIS-2", record)
        head_delta, length_delta = struct.unpack(">qq", record[0])
        head += head_delta
        length += length_delta
    items = []
    for suffix, (body, _, _) in elements.items():
        number_of_item = int.from_bytes(suffix, "big") - 2**63
        if head <= number_of_item < head + length:
            items.append(text(body))
    unread = len(elements) - len(items) + len(kinds.get("claim", {}))
    return Shown(document("items", items, expiry, []), unread)


def show_stream(kinds: Kinds, elements: Records, length: int, numbers: list[int], expiry: int | None) -> Shown:
    """[RSTM-2] to [RSTM-9]"""
    last_ms, last_seq, *trimmed = numbers
    lines = []
    for suffix, record in elements.items():
        ms, seq = struct.unpack(">QQ", suffix)
        if not length or (trimmed != [-1, -1] and [ms, seq] <= trimmed):
            continue
        body, offset, _ = record
        if body[:5] != b"\0RXE\1":
            raise bad("RSTM-6", record)
        id_, texts = "", []
        for number_of_field, wire, value, at, _ in read_message(body[5:], offset + 5, record):
            if wire == 2 and number_of_field in (1, 2):
                decoded = utf8(value, at, record)
                if number_of_field == 1:
                    id_ = decoded
                else:
                    texts.append(decoded)
        if len(texts) % 2 == 1:
            raise bad("RSTM-6", record)
        pairs = [{"name": texts[at], "value": texts[at + 1]} for at in range(0, len(texts), 2)]
        lines.append({"id": id_, "fields": pairs})
    end = {"_meta": True, "length": length, "last_ms": last_ms, "last_seq": last_seq, "expire_at_ms": expiry}
    content = "".join(
        escaped(json.dumps(line, separators=(",", ":"), ensure_ascii=False)) + "\n" for line in [*lines, end]
    )
    packed = len(kinds.get("packed", {})) if kinds.get("meta") else 0
    return Shown(content.encode(), len(elements) - len(lines) + packed)


# ---- packed records ----


def read_packed(record: tuple[bytes, int, bytes], magic: bytes, type_: str) -> Iterator[tuple[bytes, bytes, float]]:
    """Name, value and score of each element. [COLL-9] to [COLL-15]"""
    body, offset, _ = record
    if not body:
        return
    if body[:4] != b"\0" + magic + b"\1":
        raise bad("COLL-9", record)
    for number_of_field, wire, value, at, inside in read_message(body[4:], offset + 4, record):
        if (number_of_field, wire) != (1, 2):
            continue
        if type_ == "set":
            utf8(value, at, record)
            yield value, b"", 0.0
            continue
        name, content, score = b"", b"", 0.0
        for inner_number, inner_wire, inner_value, inner_at, _ in read_message(value, inside, record):
            if (inner_number, inner_wire) == (1, 2):
                utf8(inner_value, inner_at, record)
                name = inner_value
            elif type_ == "hash" and (inner_number, inner_wire) == (2, 2):
                utf8(inner_value, inner_at, record)
                content = inner_value
            elif type_ == "zset" and (inner_number, inner_wire) == (2, 1):
                (score,) = struct.unpack("<d", inner_value)
                if score != score:  # only NaN is not itself
                    raise bad("RZSE-2", record, inner_at)
        yield name, content, score


def read_message(
    message: bytes, offset: int, record: tuple[bytes, int, bytes]
) -> Iterator[tuple[int, int, bytes, int, int]]:
    """Number, wire type and value of each field, and where its tag and its value are. [COLL-10] [COLL-11]"""
    at = 0
    while at < len(message):
        start = at
        try:
            tag, at = varint(message, at)
            number_of_field, wire = tag // 8, tag % 8
            if not 0 < number_of_field < 2**29:
                raise ValueError("number")
            size = {0: None, 1: 8, 5: 4}[wire] if wire != 2 else -1
            if size is None:
                _, at = varint(message, at)
                size = 0
            elif size == -1:
                size, at = varint(message, at)
            if at + size > len(message):
                raise ValueError("cut")
        except (ValueError, KeyError):
            raise bad("COLL-11", record, offset + start) from None
        yield number_of_field, wire, message[at : at + size], offset + start, offset + at
        at += size


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where the next thing is. [COLL-10]"""
    for size in range(1, 11):
        part = data[at : at + size]
        if len(part) < size:
            break
        if part[-1] < 128:
            found = sum((byte & 127) * 128**power for power, byte in enumerate(part))
            if found < 2**64:
                return found, at + size
            break
    raise ValueError("varint")


def utf8(value: bytes, at: int, record: tuple[bytes, int, bytes]) -> str:
    """[COLL-14]"""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise bad("COLL-14", record, at) from None


def score_of(record: tuple[bytes, int, bytes]) -> float:
    """[RZSE-1] [RZSE-2]"""
    if len(record[0]) != 8:
        raise bad("RZSE-1", record)
    score = float(struct.unpack(">d", record[0])[0])
    if math.isnan(score):
        raise bad("RZSE-2", record)
    return score


# ---- output ----


def text(data: bytes) -> Any:
    """[COLL-19]"""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.urlsafe_b64encode(data).decode().rstrip("=")}


def escaped(rendered: str) -> str:
    """Outside of strings JSON has none of these characters. [COLL-20]"""
    for character in "<>&\u2028\u2029":
        rendered = rendered.replace(character, f"\\u{ord(character):04x}")
    return rendered


def document(name: str, items: list[Any], expiry: int | None, scores: list[str]) -> bytes:
    """[COLL-18]"""
    members = {"format_version": 1, name: items, "expire_at_ms": expiry}
    rendered = escaped(json.dumps(members, indent=2, ensure_ascii=False))
    # json.dumps writes U+0001 as an escape, so no member of a store can look like one of these.
    for place_of_score, score in enumerate(scores):
        rendered = rendered.replace(f'"score": "\\u0001{place_of_score}\\u0001"', f'"score": {score}', 1)
    return rendered.encode()


def number(score: float) -> str:
    """[RZSE-6]"""
    if score in (math.inf, -math.inf):
        return '"+inf"' if score > 0 else '"-inf"'
    if score == 0:
        return "-0" if math.copysign(1, score) < 0 else "0"
    for precision in range(17):
        shown = f"{abs(score):.{precision}e}"
        if float(shown) == abs(score):
            break
    mantissa, _, power = shown.partition("e")
    digits, exponent = mantissa.replace(".", "").rstrip("0") or "0", int(power)
    sign = "-" if score < 0 else ""
    if exponent >= 21 or exponent < -6:
        point = "." if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{point}{digits[1:]}e{'+' if exponent > 0 else '-'}{abs(exponent)}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    whole = digits[: exponent + 1].ljust(exponent + 1, "0")
    fraction = digits[exponent + 1 :]
    return f"{sign}{whole}{'.' if fraction else ''}{fraction}"
