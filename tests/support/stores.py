"""Stores and snapshots that are built to break a decoder, from a seed.

`hostile_store` makes entries, `any_snapshot` and `part_of_real_snapshot` make whole
files, and `corrupted` damages one. Imports nothing of the decoders.
"""

import lzma
import random
from functools import cache
from pathlib import Path
from typing import Final

import model
from collection_stores import collection_record
from ekvconform.cases.loading import load_cases
from writer import (
    HEADER_V1,
    HLL,
    STR,
    TTL,
    Entry,
    delete,
    envelope,
    expiry,
    footer,
    header_v2,
    live_set,
    operational,
    put,
    snapshot,
    version_suffix,
    writers_row,
)

REAL: Final = Path(__file__).resolve().parents[2] / "fixtures" / "real"
"""Snapshots that live servers wrote."""
MAX_GOLDEN_SIZE: Final = 8 * 1024
"""Most bytes of a golden case's snapshot that is corrupted."""
MAX_NEIGHBOURS: Final = 60
"""Most entries of a real snapshot: few, so that a corruption is not lost among them."""
SIZES: Final = (
    0, 1, 7, 8, 9, 255, 1_048_584, 1_048_585, 268_435_499, 268_435_500, 2**31, 2**32, 2**63, 2**64 - 1,
)  # fmt: skip
"""Sizes at and around the limits. [FILE-12] [FILE-13]"""
WAYS: Final = ("flip",) * 4 + ("byte",) * 3 + ("cut", "take out", "repeat", "splice", "size", "size")
"""How a snapshot is damaged, the frequent ways several times."""
OTHER_KEYS: Final = (
    b"!hs|meta|d|k", b"!lst|itm|k", b"!ddb|item|t", b"!s3|blob|b", b"!sqs|msg|vis|m", b"!txn|x", b"!s3|gc|upload|u",
    b"!nobody|knows|this", b"!redis|str", b"!", b"!" + b"y" * 70,
)  # fmt: skip
"""Storage keys of types that are not shown, and strays."""


# ---- stores ----


def hostile_store(dice: random.Random) -> list[Entry]:
    """Return chains of prefixes whose next bytes look like a version suffix, with other times in each section."""
    times = [1, 2, 3, 200, 2**56, 2**64 - 1]
    steps = [
        b"", b"a", b"\xff", b"\xff\xff", *map(version_suffix, times), version_suffix(3)[:7], version_suffix(2)[1:]
    ]  # fmt: skip
    user_keys = [b""]
    for _ in range(dice.randint(1, 5)):
        user_keys.append((dice.choice(user_keys) + dice.choice(steps))[:40])
    found: dict[bytes, bytes] = {}
    for prefix in (STR, HLL, TTL, b""):
        for user_key in dice.sample(user_keys, dice.randint(1, len(user_keys))):
            for commit_ts in dice.sample(times, dice.randint(1, 3)):
                if dice.random() < 0.2:
                    found.update([delete(prefix + user_key, commit_ts)])
                else:
                    body = expiry(commit_ts) if prefix == TTL else b"%d" % commit_ts
                    found.update([put(prefix + user_key, commit_ts, body)])
    return sorted(found.items())


def mixed_store(dice: random.Random) -> list[Entry]:
    """Return keys of every type with values of every layout, unreadable ones too, and operational entries."""
    user_keys = [b"", b"a", b"ab", b"\xff", b"b64.x", b"x" * 241, b"%" * 81, b"0" * 32 + b"__", b"_meta_applied_index"]
    expiries = [None, None, 0, 1, 1_700_000_000_000, 2**63 - 1, 2**63, 2**64 - 1]
    found: dict[bytes, bytes] = {}
    for _ in range(dice.randint(0, 14)):
        prefix = dice.choice([STR, HLL, TTL, TTL, b"", None])
        key = dice.choice(OTHER_KEYS) if prefix is None else prefix + dice.choice(user_keys)
        if prefix is None and dice.random() < 0.8:
            found.update(_collection(dice, dice.choice(user_keys[:5])))
            continue
        for commit_ts in dice.sample(range(13), dice.choice([1, 1, 1, 2, 3])):
            if dice.random() < 0.15:
                found.update([delete(key, commit_ts)])
                continue
            version = 2 if prefix == HLL else 1
            body = envelope(version, b"v%d" % commit_ts, dice.choice(expiries), other_flags=dice.choice([0, 0xFE]))
            if prefix == TTL:
                body = dice.choice([expiry(dice.choice(expiries) or 5)] * 5 + [b"", bytes(7), bytes(9)])
            elif dice.random() < 0.4:
                legacy = [b"", b"\xff", b"legacy", b"\xff\x01\x00", b"\xff\x02\x00"]
                body = dice.choice(
                    legacy + [b"\xff\x01", b"\xff\x02", b"\xff\x01\x01short", b"\xff\x02\x03"][: dice.choice([0, 4])]
                )
            found.update([put(key, commit_ts, body, expire_at=dice.choice([0, 0, 0, 5, 10]))])
    if dice.random() < 0.5:
        found.update([operational(b"_meta_applied_index", 7), operational(b"_meta_last_commit_ts", 9), writers_row()])
    return sorted(found.items())


def _collection(dice: random.Random, user_key: bytes) -> dict[bytes, bytes]:
    """Return some records of collections under one user key, a few with an older version or deleted."""
    found: dict[bytes, bytes] = {}
    for _ in range(dice.choice([1, 2, 3, 5])):
        key, body = collection_record(dice.choice, user_key)
        found.update([put(key, dice.choice([3, 5]), body)])
        if dice.random() < 0.1:
            found.update([delete(key, dice.choice([2, 7]))])
    return found


def framed(dice: random.Random, entries: list[Entry], last_commit: int) -> bytes:
    """Return a snapshot of these entries with any header and, where it may be missing, perhaps no footer."""
    header = dice.choice([HEADER_V1, header_v2(), header_v2(b"new"), b""])
    with_footer = bool(header) or dice.random() < 0.5
    return snapshot(entries, last_commit=last_commit, header=header, with_footer=with_footer)


# ---- snapshots ----


@cache
def golden_snapshots() -> list[bytes]:
    """Return the small snapshots of the golden cases."""
    snapshots = (case.scene.snapshot for case in load_cases())
    return [data for data in snapshots if data is not None and len(data) <= MAX_GOLDEN_SIZE]


@cache
def real_snapshots() -> dict[str, bytes]:
    """Return the snapshots that live servers wrote, by name."""
    return {path.parent.name: lzma.decompress(path.read_bytes()) for path in sorted(REAL.glob("*/*.fsm.xz"))}


def any_snapshot(dice: random.Random) -> bytes:
    """Return a golden case's snapshot, or that of a hostile store."""
    if dice.random() < 0.5:
        return dice.choice(golden_snapshots())
    return framed(dice, hostile_store(dice), 2**64 - 1)


@cache
def real_entries(name: str) -> list[Entry]:
    """Return all entries of a real snapshot, whatever their headers say."""
    data = real_snapshots()[name]
    sizes = offsets_of_sizes(data)
    texts = [model.take(data, offset, len(data), "")[0] for offset in sizes]
    return list(zip(texts[::2], texts[1::2], strict=True))


def part_of_real_snapshot(dice: random.Random, name: str) -> bytes:
    """Return some neighbours among the entries of a real snapshot, behind its own header."""
    data, entries = real_snapshots()[name], real_entries(name)
    payload = model.read_header(data)[0]
    last_commit = int.from_bytes(data[payload + 8 : payload + 16], "little")
    start = dice.randrange(max(1, len(entries) - 1))
    some = entries[start : start + dice.randint(1, MAX_NEIGHBOURS)]
    return snapshot(some, last_commit=last_commit, header=data[:payload])


# ---- damage ----


def offsets_of_sizes(data: bytes) -> list[int]:
    """Return where the sizes of keys and values are, as far as the file is sound."""
    found: list[int] = []
    try:
        offset = model.read_header(data)[0] + 16
        while len(data) - offset > 4:
            for limit in (1_048_584, 268_435_499):
                found.append(offset)
                _, offset = model.take(data, offset, limit, "")
    except model.RefusedError:
        pass
    return found


def corrupted(dice: random.Random, data: bytes) -> bytes:
    """Return a snapshot that is damaged in up to four ways; most get a footer that fits again."""
    found = bytearray(data)
    while found == data:
        for _ in range(dice.choice([1, 1, 1, 2, 4])):
            _damage(dice, found)
    if dice.random() < 0.7 and len(found) >= 4:
        found[-4:] = footer(bytes(found[:-4]))
    return bytes(found)


def _damage(dice: random.Random, found: bytearray) -> None:
    way, offset = dice.choice(WAYS), dice.randrange(len(found) + 1)
    if way == "flip" and offset < len(found):
        found[offset] ^= 1 << dice.randrange(8)
    elif way == "byte" and offset < len(found):
        found[offset] = dice.choice([0, 1, 2, 0x7F, 0x80, 0xFF])
    elif way == "cut":
        del found[offset:]
    elif way == "take out":
        del found[offset : offset + dice.choice([1, 2, 4, 8, 9, 17, 40])]
    elif way == "repeat":
        found[offset:offset] = found[offset : offset + dice.choice([1, 4, 8, 40])]
    elif way == "splice":
        other = dice.choice(golden_snapshots())
        start = dice.randrange(len(other) + 1)
        found[offset:offset] = other[start : start + dice.choice([1, 8, 16, 60])]
    elif way == "size" and (offsets := offsets_of_sizes(bytes(found))):
        offset = dice.choice(offsets)
        size = int.from_bytes(found[offset : offset + 8], "little")
        other_size = dice.choice([*SIZES, size + 1, max(0, size - 1), size + 8, size + 17]) % 2**64
        found[offset : offset + 8] = other_size.to_bytes(8, "little")


# ---- a store like a live one ----

REAL_SHAPED: Final = snapshot(
    [
        *live_set(b"k", 10, envelope(1, b"new", 1_800_000_000_000), 1_800_000_000_000),
        *live_set(b"legacy", 12, b"old", 1_800_000_000_001),
        put(STR + b"k", 5, envelope(1, b"older")),
        put(HLL + b"h", 11, envelope(2, b"HYLL")),
        put(TTL + b"gone", 9, expiry(7)),
        put(b"bare", 3, b"\xff\x01"),
        delete(b"bare2", 4),
        operational(b"_meta_applied_index", 3),
        writers_row(),
    ],
    last_commit=20,
)
"""A snapshot that holds what a current server writes for two strings, and some of everything else."""
