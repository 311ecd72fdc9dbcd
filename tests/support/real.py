"""The real snapshots, what clients of the live servers saw of them, and one in memory that is like them."""

import base64
import hashlib
import json
import lzma
from collections.abc import Set
from pathlib import Path
from typing import Any

from ekvdump.outcome import Outcome
from ekvdump.verify.segments import decode_segment
from writer import HLL, STR, TTL, delete, envelope, expiry, live_set, operational, put, snapshot, writers_row

REAL = Path(__file__).resolve().parents[2] / "fixtures" / "real"
SLACK_MS = 2
DIRECTORIES = {"hash": "hashes", "list": "lists", "set": "sets", "zset": "zsets", "stream": "streams"}
"""Type of a collection = the directory of its blobs."""
REAL_SHAPED = snapshot(
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
"""What live servers write, in a small snapshot."""


def unpack(name: str, directory: Path) -> str:
    (packed,) = (REAL / name).glob("*.fsm.xz")
    snapshot = directory / packed.stem
    snapshot.write_bytes(lzma.decompress(packed.read_bytes()))
    return str(snapshot)


def read_dump(out: Path) -> dict[str, dict[bytes, tuple[bytes, int | None]]]:
    """Read a dump as a user would: kind -> key -> payload and expiry. The payload of a collection is its blob."""
    base = out / "redis" / "db_0"
    originals = {}
    if (base / "KEYMAP.jsonl").exists():
        for text in (base / "KEYMAP.jsonl").read_text().splitlines():
            line = json.loads(text)
            padded = line["original"] + "=" * (-len(line["original"]) % 4)
            originals[line["encoded"]] = base64.urlsafe_b64decode(padded)
    found: dict[str, dict[bytes, tuple[bytes, int | None]]] = {}
    for kind, sidecar in (("strings", "strings_ttl.jsonl"), ("hll", "hll_ttl.jsonl")):
        expiries: dict[str, int] = {}
        if (base / sidecar).exists():
            for text in (base / sidecar).read_text().splitlines():
                row = json.loads(text)
                assert row["key"] not in expiries, "two rows for a key [RTTL-13]"
                expiries[row["key"]] = row["expire_at_ms"]
        found[kind] = {}
        for blob in base.glob(f"{kind}/*.bin"):
            segment = blob.name.removesuffix(".bin")
            key = originals[segment] if segment in originals else decode_segment(segment)
            found[kind][key] = (blob.read_bytes(), expiries.pop(segment, None))
        assert not expiries, "rows without a blob"
    for kind, directory in DIRECTORIES.items():
        found[kind] = {}
        for blob in base.glob(f"{directory}/*"):
            segment = blob.name.removesuffix(".jsonl").removesuffix(".json")
            key = originals[segment] if segment in originals else decode_segment(segment)
            last_line = blob.read_text().rstrip("\n").splitlines()[-1]
            end = json.loads(last_line if kind == "stream" else blob.read_text())
            found[kind][key] = (blob.read_bytes(), end["expire_at_ms"])
    return found


def elements_of(kind: str, blob: bytes) -> Any:
    """Return the elements of a collection as `seen.jsonl` has them."""
    if kind == "stream":
        lines = [json.loads(line) for line in blob.splitlines()[:-1]]
        return [
            [line["id"], [[_base64_of(field["name"]), _base64_of(field["value"])] for field in line["fields"]]]
            for line in lines
        ]
    document = json.loads(blob, parse_int=str, parse_float=str)
    if kind == "hash":
        return sorted([_base64_of(each["name"]), _base64_of(each["value"])] for each in document["fields"])
    if kind == "zset":
        return sorted([_base64_of(each["member"]), float(each["score"])] for each in document["members"])
    return [_base64_of(each) for each in document["items" if kind == "list" else "members"]]


def elements_seen(seen: dict[str, Any]) -> Any:
    """Return the elements that clients saw, in the order of a dump."""
    if seen["type"] == "hash":
        return sorted(seen["fields"])
    if seen["type"] == "set":
        return sorted(seen["members"], key=base64.b64decode)
    if seen["type"] == "zset":
        return sorted([member, float(score)] for member, score in seen["members"])
    return seen["items" if seen["type"] == "list" else "entries"]


def _base64_of(value: Any) -> str:
    if isinstance(value, str):
        return base64.b64encode(value.encode()).decode()
    return base64.b64encode(base64.urlsafe_b64decode(value["base64"] + "==")).decode()


def count_members(sketch: bytes) -> int:
    """Count what a live server put into an HLL: four bytes, then `0A`, size and member, one after the other.

    The spec takes a sketch for opaque; to the servers that wrote these files it is the set of its members.
    """
    assert sketch[:4] == b"\0RS\1"
    members, place = set(), 4
    while place < len(sketch):
        assert sketch[place] == 0x0A
        size = sketch[place + 1]
        assert size < 0x80
        place += 2 + size
        members.add(sketch[place - size : place])
    assert place == len(sketch)
    return len(members)


def judge(seen: dict[str, Any], shown: tuple[bytes, int | None] | None) -> str:
    """Say what is wrong with what the dump shows of a key, or nothing."""
    if shown is None:
        return "missing"
    payload, expiry_ms = shown
    if "value" in seen and seen["value"] is not None:
        if payload != base64.b64decode(seen["value"]):
            return "wrong value"
    elif "sha256" in seen and (len(payload) != seen["size"] or hashlib.sha256(payload).hexdigest() != seen["sha256"]):
        return "wrong hash"
    if seen["type"] in DIRECTORIES and elements_of(seen["type"], payload) != elements_seen(seen):
        return "other elements"
    if seen["type"] == "hll" and count_members(payload) != seen["pfcount"]:
        return "another HLL"
    bounds = seen.get("expire_at_ms_between")
    if bounds is None:
        return "" if expiry_ms is None else "an expiry nobody saw"
    if expiry_ms is None:
        return "expiry lost"
    low, high = bounds
    return "" if low - SLACK_MS <= expiry_ms <= high + SLACK_MS else "wrong expiry"


def read_seen(name: str) -> dict[bytes, dict[str, Any]]:
    """Key -> what clients of the live server saw of it."""
    lines = (REAL / name / "seen.jsonl").read_text().splitlines()
    return {base64.b64decode(seen["key"]): seen for seen in map(json.loads, lines)}


def complaints(
    seen: dict[bytes, dict[str, Any]],
    dump: dict[str, dict[bytes, tuple[bytes, int | None]]],
    missed: Set[bytes] = frozenset(),
) -> list[tuple[bytes, str]]:
    """Compare a dump with what was seen, key by key, both ways.

    `missed` are committed keys that the server's lookup did not find. [VISI-16]
    """
    wrong = []
    for key, each in seen.items():
        if each["type"] != "none":
            kind = "strings" if each["type"] == "string" else each["type"]
            complaint = judge(each, dump[kind].pop(key, None))
        else:
            # Deleted, or expired when the client looked: the dump holds it only with an expiry. [CONV-2]
            shown = next((of_kind.pop(key) for of_kind in dump.values() if key in of_kind), None)
            if key in missed:
                complaint = "" if shown is not None and shown[1] is None else "a committed key is missing"
            else:
                complaint = "" if shown is None or shown[1] is not None else "resurrected"
        if complaint:
            wrong.append((key, complaint))
    wrong += [(key, "nobody wrote it") for kind in dump.values() for key in kind]
    return wrong


def assert_counters_add_up(outcome: Outcome) -> None:
    counters = outcome.counters
    assert sum(counters.undecoded.values()) == counters.entries["undecoded"]
    assert sum(counters.strings.values()) == counters.entries["string"] + counters.entries["bare"]
    assert sum(counters.hlls.values()) == counters.entries["hll"]
    assert sum(counters.ttls.values()) == counters.entries["ttl"]
    for type_, group in DIRECTORIES.items():
        assert sum(getattr(counters, group).values()) == counters.entries[type_]
