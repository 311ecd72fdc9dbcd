"""The independent writer of snapshots, and stores like a live one; imports nothing from `command/`."""

import struct
from collections.abc import Iterable

from ekvconform.cases.writer import (
    HEADER_V1,
    HLL,
    STR,
    TTL,
    Entry,
    delete,
    encoded_entry,
    envelope,
    expiry,
    footer,
    header_v2,
    operational,
    payload_start,
    put,
    snapshot,
    version_suffix,
    writers_row,
)

__all__ = [
    "HEADER_V1", "HLL", "STR", "TTL", "Entry", "delete", "encoded_entry", "envelope", "expiry", "footer", "header_v2",
    "live_set", "live_store", "operational", "payload_start", "put", "snapshot", "version_suffix", "writers_row",
]  # fmt: skip


def live_set(user_key: bytes, commit_ts: int, body: bytes, expiry_ms: int | None) -> list[Entry]:
    """The ten entries that one SET of a current server writes."""
    ttl = TTL + user_key
    entries = [
        put(STR + user_key, commit_ts, body),
        delete(ttl, commit_ts) if expiry_ms is None else put(ttl, commit_ts, expiry(expiry_ms)),
    ]
    sized = struct.pack(">I", len(user_key)) + user_key
    entries += [delete(b"!%b|meta|" % name + sized, commit_ts) for name in (b"lst", b"hs", b"st", b"zs")]
    entries += [
        put(b"!redis|txn-wide-%b|" % name + user_key, commit_ts, b"") for name in (b"hash", b"set", b"list", b"zset")
    ]
    return entries


def live_store(keys: int, payload_size: int = 24) -> Iterable[Entry]:
    """Entries of strings: one third each envelope with expiry, envelope without, legacy with a TTL record."""
    for number in range(keys):
        user_key = b"user:%08d" % number
        payload = (b"%08d" % number * (payload_size // 8 + 1))[:payload_size]
        expiry_ms = 1_800_000_000_000 + number
        kind = number % 3
        body = payload if kind == 2 else envelope(1, payload, expiry_ms if kind == 0 else None)
        yield from live_set(user_key, 1 + number, body, None if kind == 1 else expiry_ms)
