"""Classifies the entries of a snapshot; failures are explained with it.

Imports no decoder, and judges nothing: it stops at the first entry that is not whole.

    fate         of an entry
    -----------  ------------------------------------------------------------
    operational  an entry of the node's own
    future       a version above the last commit
    history      an older version of its key
    deleted      the version that counts is a tombstone
    expired      the version that counts has ended
    visible      the version that counts
"""

import errno
import hashlib
import io
import os
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from ekvconform.cases.data_files import KEYS_TABLE, USER_KEYS_TABLE
from ekvconform.cases.golden_cases import Scene
from ekvconform.cases.snapshots import write_snapshot
from ekvconform.cases.writer import Entry

OPERATIONAL: Final = "operational"
FUTURE: Final = "future"
HISTORY: Final = "history"
DELETED: Final = "deleted"
EXPIRED: Final = "expired"
VISIBLE: Final = "visible"
STRING: Final = "string"
BARE: Final = "bare"
HLL: Final = "hll"
TTL: Final = "ttl"
UNKNOWN: Final = "unknown"
PAYLOAD_MAGIC: Final = b"EKVPBBL1"
HEADER_MAGIC: Final = b"EKVTHLC"
MAX_HEADER_SIZE: Final = 1034
META_ROW: Final = re.compile(
    rb"_meta_(?:last_commit_ts|min_retained_ts|pending_min_retained_ts|applied_index)", re.DOTALL
)
WRITERS_ROW: Final = re.compile(rb"!encryption\|writers\|.{4}\|.{2}", re.DOTALL)
ENVELOPES: Final = {STRING: b"\xff\x01", HLL: b"\xff\x02"}
MAX_GENERATED_SIZE: Final = 8 * 1024 * 1024
"""Largest generated snapshot that failures are explained with, in bytes."""
MAX_MS: Final = 2**63 - 1
PREFIXES: Final = {
    prefix.encode(): type_ for table in KEYS_TABLE.values() for type_, prefixes in table.items() for prefix in prefixes
}
"""Prefix of a storage key = the type of its records. [KEYS-1]"""
SHAPES: Final[dict[bytes, dict[str, Any]]] = {
    prefix.encode(): shape for prefix, shape in USER_KEYS_TABLE["shapes"].items()
}
"""Prefix of a collection's records = how their storage keys are made. [TYPE-1]"""
COLLECTIONS: Final = frozenset(PREFIXES[prefix] for prefix in SHAPES)
"""Types of which one key is several records. [TYPE-1]"""
FALLBACK: Final = re.compile(r"([0-9A-Fa-f]{32})__")


@dataclass(frozen=True, slots=True)
class Content:
    """One entry, and what it is."""

    type: str
    user_key: bytes
    fate: str
    commit_ts: int
    body: bytes
    end: int
    """Offset in the snapshot of what follows the entry, in bytes."""
    prefix: bytes = b""
    """That of its storage key."""
    suffix: bytes = b""
    """What follows the user key in its storage key."""

    @property
    def is_envelope(self) -> bool:
        """Predicate: does the body have a layout that carries its own expiry?"""
        return self.body.startswith(ENVELOPES.get(self.type, b"\0none"))

    @property
    def layout(self) -> str:
        """A name for the record, by its type and layout."""
        if self.type in ENVELOPES:
            name = "HLL" if self.type == HLL else "string"
            return f"{name} in an envelope" if self.is_envelope else f"legacy {name}"
        return {BARE: "bare string", TTL: "TTL record"}.get(self.type, f"{self.type} record")

    @property
    def payload(self) -> bytes:
        """The user's bytes."""
        if not self.is_envelope or len(self.body) < 3:
            return self.body
        return self.body[11:] if self.body[2] & 1 else self.body[3:]

    @property
    def expiry_ms(self) -> int | None:
        """The expiry that the value itself has, in Unix ms; not clamped."""
        if self.type == TTL:
            return int.from_bytes(self.body, "big")
        return int.from_bytes(self.body[3:11], "big") if self.is_envelope and self.body[2:3] > b"\0" else None


def payload_offset(snapshot: bytes) -> int | None:
    """Return where the payload part begins, or None if it is not found."""
    if snapshot.startswith(PAYLOAD_MAGIC):
        return 0
    offset = snapshot.find(PAYLOAD_MAGIC, 16, MAX_HEADER_SIZE + len(PAYLOAD_MAGIC))
    return offset if offset > 0 and snapshot.startswith(HEADER_MAGIC) else None


def iter_whole_entries(snapshot: bytes, offset: int) -> Iterator[tuple[int, Entry]]:
    """Yield the end of each entry and the entry itself, from `offset` on, as long as they are whole."""
    while len(snapshot) - offset > 8:
        parts = []
        for _ in range(2):
            size = int.from_bytes(snapshot[offset : offset + 8], "little")
            parts.append(snapshot[offset + 8 : offset + 8 + size])
            if offset + 8 + size > len(snapshot) or len(snapshot) < offset + 8:
                return
            offset += 8 + size
        yield offset, (parts[0], parts[1])


def is_operational(entry: Entry) -> bool:
    """Predicate: is the entry one of the node's own? [VISI-7] [VISI-8]"""
    key, value = entry
    return bool((META_ROW.fullmatch(key) and len(value) == 8) or (WRITERS_ROW.fullmatch(key) and len(value) == 12))


def contents_of(snapshot: bytes) -> list[Content]:
    """Classify the entries of a snapshot, in their order, up to the first that is not whole."""
    start = payload_offset(snapshot)
    if start is None:
        return []
    last_commit = int.from_bytes(snapshot[start + 8 : start + 16], "little")
    ends, entries = [], []
    for end, entry in iter_whole_entries(snapshot, start + 16):
        ends.append(end)
        entries.append(entry)
    newest: dict[bytes, int] = {}
    for key, value in entries:
        commit_ts = commit_ts_of(key)
        if not is_operational((key, value)) and len(key) >= 8 and commit_ts <= last_commit:
            newest[key[:-8]] = max(commit_ts, newest.get(key[:-8], 0))
    return [_content(entry, end, last_commit, newest) for entry, end in zip(entries, ends, strict=True)]


def contents_of_scene(scene: Scene) -> list[Content]:
    """Classify the entries of the snapshot of a scene; none if it is generated and too large to be looked at."""
    if scene.described is None:
        return contents_of(scene.snapshot or b"")
    file = _SmallFile()
    try:
        write_snapshot(scene.described, file)
    except OSError:
        return []
    return contents_of(file.getvalue())


class _SmallFile(io.BytesIO):
    """A file that takes no more than `MAX_GENERATED_SIZE` bytes."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > MAX_GENERATED_SIZE:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return super().write(data)


def content_at(contents: Sequence[Content], offset: int) -> Content | None:
    """Return the entry that an offset lies in, or at whose end it is."""
    return next((content for content in contents if offset <= content.end), None)


def commit_ts_of(key: bytes) -> int:
    """Return the commit timestamp of an encoded key. [VISI-1]"""
    return 2**64 - 1 - int.from_bytes(key[-8:], "big")


def _content(entry: Entry, end: int, last_commit: int, newest: dict[bytes, int]) -> Content:
    key, value = entry
    if is_operational(entry):
        return Content(OPERATIONAL, key, OPERATIONAL, 0, value, end)
    storage_key, commit_ts = key[:-8], commit_ts_of(key)
    expire_at = int.from_bytes(value[1:9], "little")
    if commit_ts > last_commit:
        fate = FUTURE
    elif commit_ts != newest.get(storage_key):
        fate = HISTORY
    elif value[:1] == b"\1":
        fate = DELETED
    else:
        fate = EXPIRED if 0 < expire_at <= last_commit else VISIBLE
    type_, size = type_of(storage_key)
    place = user_key_place(storage_key) or slice(size, None)
    suffix = storage_key[place.stop :] if place.stop is not None else b""
    return Content(type_, storage_key[place], fate, commit_ts, value[9:], end, storage_key[:size], suffix)


def type_of(storage_key: bytes) -> tuple[str, int]:
    """Return the type of a storage key, and the size of its prefix. [KEYS-1] [KEYS-8] [KEYS-3]"""
    if not storage_key.startswith(b"!"):
        return BARE, 0
    found = max((prefix for prefix in PREFIXES if storage_key.startswith(prefix)), key=len, default=b"")
    return PREFIXES.get(found, UNKNOWN), len(found)


def user_key_place(storage_key: bytes) -> slice | None:
    """Return where the user key is in a storage key; None in that of a stray, or of a type without user keys.

    What may be a delta of a list or the meta of another one is taken as a delta. [TYPE-1] [TYPE-2] [TYPE-3]
    """
    type_, size = type_of(storage_key)
    if type_ in (STRING, BARE, HLL, TTL):
        return slice(size, len(storage_key))
    shape = SHAPES.get(storage_key[:size])
    if shape is None:
        return None
    suffix_size: int | None = shape.get("suffix")
    if not shape["sized"]:
        end = len(storage_key) - (suffix_size or 0)
        return slice(size, end) if end >= size else None
    start = size + 4
    end = start + int.from_bytes(storage_key[size:start], "big")
    is_whole = start <= end <= len(storage_key) and start <= len(storage_key)
    return slice(start, end) if is_whole and suffix_size in (None, len(storage_key) - end) else None


def key_of_segment(segment: str, keys: Iterable[bytes]) -> bytes | None:
    """Return the user key that a segment stands for, in any form; `keys` are those that it may be."""
    if match := FALLBACK.match(segment):
        digits = match[1].lower()
        return next((key for key in keys if hashlib.sha256(key).hexdigest()[:32] == digits), None)
    if segment.startswith("b64."):
        try:
            return urlsafe_b64decode(segment[4:] + "=" * (-len(segment[4:]) % 4))
        except ValueError:
            return None
    return unquote_to_bytes(segment)
