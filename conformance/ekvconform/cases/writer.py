"""Writes snapshots and segments, from the spec alone; imports no decoder.

An entry is a pair of an encoded key and an encoded value. A snapshot is assembled
from parts that can be omitted, repeated or damaged.
"""

import base64
import hashlib
import re
import string
import struct
from collections.abc import Iterable

import google_crc32c

Entry = tuple[bytes, bytes]

HEADER_V1 = b"EKVTHLC1" + struct.pack(">Q", 1_777_000_000_000)
STR, HLL, TTL = b"!redis|str|", b"!redis|hll|", b"!redis|ttl|"


def header_v2(extension: bytes = b"", size: int | None = None) -> bytes:
    """Write a version 2 header [FILE-2]; `size` overrides its size field."""
    fields = struct.pack(">QQ", 1_777_000_000_000, 93) + extension
    return b"EKVTHLC2" + struct.pack(">H", len(fields) if size is None else size) + fields


def payload_start(last_commit: int) -> bytes:
    """Write payload magic and last commit. [FILE-6]"""
    return b"EKVPBBL1" + struct.pack("<Q", last_commit)


def encoded_entry(entry: Entry) -> bytes:
    """Write an entry. [FILE-11]"""
    key, value = entry
    return struct.pack("<Q", len(key)) + key + struct.pack("<Q", len(value)) + value


def footer(before: bytes) -> bytes:
    """Write the footer for the bytes before it. [FILE-18]"""
    return struct.pack(">I", google_crc32c.value(before))


def snapshot(
    entries: Iterable[Entry], *, last_commit: int = 1000, header: bytes = HEADER_V1, with_footer: bool = True
) -> bytes:
    """Write a whole snapshot; entries are sorted. [FILE-16]"""
    body = header + payload_start(last_commit) + b"".join(map(encoded_entry, sorted(entries)))
    return body + footer(body) if with_footer else body


# ---- entries ----


def version_suffix(commit_ts: int) -> bytes:
    """Write NOT commit timestamp. [VISI-1]"""
    return struct.pack(">Q", 2**64 - 1 - commit_ts)


def put(storage_key: bytes, commit_ts: int, body: bytes, *, flags: int = 0, expire_at: int = 0) -> Entry:
    """Make a version that holds a body. [VISI-1] [VISI-2]"""
    return storage_key + version_suffix(commit_ts), struct.pack("<BQ", flags, expire_at) + body


def delete(storage_key: bytes, commit_ts: int) -> Entry:
    """Make a tombstone. [VISI-12]"""
    return put(storage_key, commit_ts, b"", flags=1)


def operational(name: bytes, number: int) -> Entry:
    """Make an entry of the node's own. [VISI-7]"""
    return name, struct.pack("<Q", number)


def writers_row(node: bytes = b"\0\0\0\7", suffix: bytes = b"\0\1", value: bytes = b"\x02" * 12) -> Entry:
    """Make an entry of the node's own. [VISI-8]"""
    return b"!encryption|writers|" + node + b"|" + suffix, value


# ---- values ----


def envelope(version: int, payload: bytes, expiry_ms: int | None = None, *, other_flags: int = 0) -> bytes:
    """Write an envelope: version 1 of a string [ENVL-1], version 2 of an HLL [ENVL-2]."""
    expiry = b"" if expiry_ms is None else struct.pack(">Q", expiry_ms)
    return bytes((0xFF, version, other_flags | bool(expiry))) + expiry + payload


def expiry(expiry_ms: int) -> bytes:
    """Write the body of a TTL record. [RTTL-1]"""
    return struct.pack(">Q", expiry_ms)


# ---- names ----


def encode_segment(user_key: bytes) -> str:
    """Write a user key as a segment. [SEGM-1] [SEGM-4] [SEGM-5] [SEGM-6] [SEGM-7]"""
    percent = _percent_form(user_key)
    if len(user_key) <= 240 and len(percent) <= 240 and not FALLBACK_NEEDED.match(percent):
        return percent
    return f"{hashlib.sha256(user_key).hexdigest()[:32]}__{_percent_form(user_key[:64])}"


FALLBACK_NEEDED = re.compile(r"[0-9A-Fa-f]{32}__|b64\.")


def _percent_form(data: bytes) -> str:
    return "".join(chr(byte) if chr(byte) in UNESCAPED else f"%{byte:02X}" for byte in data)


UNESCAPED = frozenset(string.ascii_letters + string.digits + "-._")


def render_unreadable_line(storage_key: bytes, segment: str, offset: int, clause: str, kind: str) -> bytes:
    """Write a line of unreadable.jsonl. [SALV-6]"""
    key = encode_base64url(storage_key)
    return (
        f'{{"segment":"{segment}","storage_key":"{key}","offset":{offset},"clause":"{clause}","kind":"{kind}"}}\n'
    ).encode()


def render_keymap_line(segment: str, user_key: bytes) -> bytes:
    """Write a line of KEYMAP.jsonl. [KMAP-1]"""
    return f'{{"encoded":"{segment}","original":"{encode_base64url(user_key)}","kind":"sha-fallback"}}\n'.encode()


def render_expiry_line(segment: str, expiry_ms: int) -> bytes:
    """Write a line of a sidecar of expiries. [RTTL-14]"""
    return f'{{"key":"{segment}","expire_at_ms":{expiry_ms}}}\n'.encode()


def encode_base64url(data: bytes) -> str:
    """Write bytes in base64url without padding. [KMAP-1]"""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
