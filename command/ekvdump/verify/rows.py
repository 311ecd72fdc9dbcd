"""Rows of sidecars, as a verifier reads them: expiry rows and lines of `unreadable.jsonl`.

A decoder returns None for a row that is malformed; the caller reports it. [VERI-14]
"""

import re
from typing import Any, Final, TypeGuard

from ekvformat.envelope import MAX_EXPIRY_MS
from ekvformat.keys import COLLECTIONS, HLL_PREFIX, STRING_PREFIX, TTL_PREFIX, prefix_of
from ekvformat.manifest import decode_json, is_number, is_text
from ekvformat.salvage import HLL_KIND, KINDS, STRING_KIND, TTL_KIND, UNREADABLE_DIRECTORY
from ekvformat.segments import encode_segment
from ekvformat.user_keys import LIST_META_SIZES

from ekvdump.engine.collection_index import split_storage_key
from ekvdump.verify.findings import Finding
from ekvdump.verify.segments import decode_base64url, decode_segment

CLAUSE_SHAPE: Final = re.compile(r"[A-Z]{4}-[0-9]+")
"""The form of a clause ID. [SALV-6]"""
PREFIX_OF_KIND: Final = {STRING_KIND: STRING_PREFIX, HLL_KIND: HLL_PREFIX, TTL_KIND: TTL_PREFIX}


def decode_row(text: bytes) -> dict[str, Any]:
    """Decode the JSON object of a row; {} for anything else."""
    try:
        row = decode_json(text)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def decode_expiry_row(text: bytes) -> tuple[str] | None:
    """Return the segment of a row of an expiry sidecar, or None if it is not such a row. [VERI-14] [RTTL-14]"""
    row = decode_expiry(text)
    return None if row is None else row[:1]


def decode_expiry(text: bytes) -> tuple[str, int] | None:
    """Return segment and expiry, in Unix ms, of a row of an expiry sidecar, or None if it is not such a row."""
    row = decode_row(text)
    segment, expiry_ms = row.get("key"), row.get("expire_at_ms")
    if is_segment(segment) and is_number(expiry_ms) and 0 <= expiry_ms <= MAX_EXPIRY_MS and len(row) == 2:
        return segment, int(expiry_ms)
    return None


def decode_unreadable_line(text: bytes) -> tuple[str, str] | None:
    """Return directory and name of the file that a line of `unreadable.jsonl` lists, or None. [VERI-14] [SALV-6]"""
    row = decode_row(text)
    segment, storage_key, kind = row.get("segment"), row.get("storage_key"), row.get("kind")
    offset = row.get("offset")
    if (
        isinstance(storage_key, str)
        and kind in KINDS
        and segment in segments_of(decode_base64url(storage_key), kind)
        and is_number(offset)
        and offset >= 0
        and isinstance(clause := row.get("clause"), str)
        and CLAUSE_SHAPE.fullmatch(clause)
        and len(row) == 5
    ):
        return UNREADABLE_DIRECTORY, f"{segment}.{kind}"
    return None


def segments_of(storage_key: bytes | None, kind: str) -> list[str]:
    """Return the segments that a record with this storage key and kind may have. [SALV-6]"""
    if storage_key is None:
        return []
    if kind in COLLECTIONS:
        prefix = prefix_of(storage_key)
        if prefix not in COLLECTIONS[kind]:
            return []
        # [TYPE-3] Of a list, what the size of the body would tell is not known here.
        places = {split_storage_key(storage_key, prefix, size) for size in (0, *LIST_META_SIZES)}
        return [encode_segment(place[1]) for place in places if place is not None]
    prefix = PREFIX_OF_KIND[kind]
    segments = [encode_segment(storage_key.removeprefix(prefix))] if storage_key.startswith(prefix) else []
    # [RSTR-2] A bare string has no prefix.
    return [*segments, encode_segment(storage_key)] if kind == STRING_KIND else segments


def is_segment(value: object) -> TypeGuard[str]:
    """Return True if a JSON value is a segment. [READ-5]"""
    if not is_text(value):
        return False
    try:
        decode_segment(value)
    except Finding as finding:
        return finding.name == "needs-keymap"
    return True
