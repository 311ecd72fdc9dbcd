"""What a dump must hold, said the naive way, from the spec alone; imports nothing from `command/`.

All entries lie in tables, all keys are sorted with a written-out comparison, and
nothing is clever: this is the oracle of the properties.
"""

import base64
import hashlib
import json
import string
import tomllib
import urllib.parse
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import collection_model
import google_crc32c

SPEC = Path(__file__).resolve().parents[2] / "spec"
TABLE = tomllib.loads((SPEC / "companions" / "keys.toml").read_text())
OUTCOMES = tomllib.loads((SPEC / "companions" / "outcomes.toml").read_text())
MOST_MS = 9_223_372_036_854_775_807
META = {
    b"_meta_last_commit_ts",
    b"_meta_min_retained_ts",
    b"_meta_pending_min_retained_ts",
    b"_meta_applied_index",
}


@dataclass
class Expected:
    """What must come of a snapshot."""

    files: dict[str, bytes] = field(default_factory=dict)
    """All but MANIFEST.json and CHECKSUMS."""
    entries: Counter[str] = field(default_factory=Counter)
    undecoded: Counter[str] = field(default_factory=Counter)
    strings: Counter[str] = field(default_factory=Counter)
    hlls: Counter[str] = field(default_factory=Counter)
    hashes: Counter[str] = field(default_factory=Counter)
    lists: Counter[str] = field(default_factory=Counter)
    sets: Counter[str] = field(default_factory=Counter)
    zsets: Counter[str] = field(default_factory=Counter)
    streams: Counter[str] = field(default_factory=Counter)
    collections: Counter[str] = field(default_factory=Counter)
    ttls: Counter[str] = field(default_factory=Counter)
    warnings: list[tuple[str, int, list[str]]] = field(default_factory=list)
    """Name, count, what it is about."""
    reasons: list[tuple[str, str, int]] = field(default_factory=list)
    unreadable: int = 0
    refusal: tuple[str, str, bytes, int] | None = None
    """Fault, clause, storage key, offset; then nothing else is said."""
    about: dict[str, list[str]] = field(default_factory=dict)
    """What the warnings of each name are about."""


class UnreadableError(Exception):
    """A value that refuses the snapshot: clause, and how far into the body."""


def canonical(key: bytes) -> tuple[int, ...]:
    """A sort key: bytewise, with the end of a key above every byte. [VISI-17]"""
    return (*key, 256)


def is_operational(key: bytes, value: bytes) -> bool:
    """[VISI-7] [VISI-8]"""
    if key in META:
        return len(value) == 8
    return (
        len(key) == 27 and key[:20] == b"!encryption|writers|" and key[24:25] == b"|" and len(value) == 12
    )  # fmt: skip


def type_of(storage_key: bytes) -> str:
    """[KEYS-1] [KEYS-8] [KEYS-3]"""
    best, size = ("unknown" if storage_key[:1] == b"!" else "bare"), 0
    for group in TABLE.values():
        for name, prefixes in group.items():
            for prefix in prefixes:
                if storage_key.startswith(prefix.encode()) and len(prefix) > size:
                    best, size = name, len(prefix)
    return best


def percent(key: bytes) -> str:
    """[SEGM-1]"""
    return urllib.parse.quote(key, safe="").replace("~", "%7E")


def segment_of(key: bytes) -> str:
    """[SEGM-1] to [SEGM-7]"""
    text = percent(key)
    looks_fallback = len(text) >= 34 and set(text[:32]) <= set(string.hexdigits) and text[32:34] == "__"
    if len(key) > 240 or len(text) > 240 or looks_fallback or text[:4] == "b64.":
        return hashlib.sha256(key).hexdigest()[:32] + "__" + percent(key[:64])
    return text


def read_value(body: bytes, kind: int) -> tuple[bytes, int | None, bool]:
    """Payload, expiry, and whether it is an envelope. [ENVL-1] to [ENVL-9]"""
    if body[:2] != bytes([255, kind]):
        return body, None, False
    if len(body) == 2:
        raise UnreadableError("ENVL-4", 2)
    if body[2] % 2 == 0:
        return body[3:], None, True
    if len(body) < 11:
        raise UnreadableError("ENVL-5", 3)
    return body[11:], min(MOST_MS, int.from_bytes(body[3:11], "big")), True


Found = dict[str, dict[bytes, tuple[bytes, int]]]
"""Type -> storage key -> body and its offset, of all that is visible."""


def visible(entries: Iterable[tuple[bytes, bytes]], last_commit: int, place: int, counts: Counter[str]) -> Found:
    """What is visible; the classes of the others are counted. The first entry stands at `place`. [COMP-7]"""
    versions: dict[bytes, list[tuple[int, bytes, int]]] = defaultdict(list)
    for key, value in entries:
        body_offset = place + 8 + len(key) + 8 + 9
        place += 8 + len(key) + 8 + len(value)
        if is_operational(key, value):
            counts["operational"] += 1
            continue
        commit_ts = 2**64 - 1 - int.from_bytes(key[-8:], "big")
        if commit_ts > last_commit:
            counts["future"] += 1
        else:
            versions[key[:-8]].append((commit_ts, value, body_offset))
    found: Found = defaultdict(dict)
    for storage_key, all_of_it in versions.items():
        counts["history"] += len(all_of_it) - 1
        _, newest, body_offset = max(all_of_it)
        expire_at = int.from_bytes(newest[1:9], "little")
        if newest[0] & 1:
            counts["deleted"] += 1
        elif expire_at and expire_at <= last_commit:
            counts["expired"] += 1
        else:
            found[type_of(storage_key)][storage_key] = newest[9:], body_offset
    return found


def expected_dump(
    entries: Iterable[tuple[bytes, bytes]],
    last_commit: int,
    *,
    place: int = 32,
    database: int = 0,
    only: set[str] | None = None,
    salvage: bool = False,
) -> Expected:
    """Say what must come of a snapshot whose structure, footer and entry headers are sound.

    Its first entry stands at offset `place`.
    """
    want = {"strings", "hll", *collection_model.DIRECTORIES.values()} if only is None else only
    result = Expected()
    entries = sorted(entries)
    found = visible(entries, last_commit, place, result.entries)
    result.about["unknown-prefix"] = beginnings(entries, set(found["unknown"]))
    for type_ in ("internal", "unknown", "string", "bare", "hll", *collection_model.TYPES, "ttl"):
        result.entries[type_] += len(found[type_])
    for type_ in TABLE["undecoded"]:
        result.undecoded[type_] += len(found[type_])
        result.entries["undecoded"] += len(found[type_])
    broken = _show(found, want, f"redis/db_{database}", result, salvage=salvage)
    if broken and not salvage:
        # The first in output order that is broken by itself; a row that breaks another comes last. [OUTC-5]
        first = next(each for each in broken if each["kind"] == "ttl" or each["clause"] != "RTTL-1")
        return Expected(refusal=("invalid-value", first["clause"], first["key"], first["offset"]))
    _list_unreadable(broken, f"redis/db_{database}", result)
    result.warnings = _warnings(result, only is None, f"redis/db_{database}")
    return result


def _show(found: Found, want: set[str], base: str, result: Expected, *, salvage: bool) -> list[dict[str, Any]]:
    """Fill files and counters; return what is unreadable, in output order. [OUTC-5] [SALV-2]"""
    string, bare, hll, ttl = (
        {key[len(prefix) :]: value for key, value in found[type_].items()}
        for type_, prefix in (
            ("string", b"!redis|str|"),
            ("bare", b""),
            ("hll", b"!redis|hll|"),
            ("ttl", b"!redis|ttl|"),
        )
    )
    rows: dict[str, list[tuple[str, int]]] = {"strings": [], "hll": []}
    keymap: dict[str, bytes] = {}
    broken: list[dict[str, Any]] = []
    bad_rows = {key for key, (body, _) in ttl.items() if len(body) != 8}
    by_key, strays = collection_model.sort_out(found)
    values = {"string": string, "hll": hll, "bare": bare}
    types = {
        key: collection_model.type_of_key({name for name, table in values.items() if key in table}, by_key.get(key, {}))
        for key in {*string, *hll, *bare, *by_key, *ttl}
    }

    def break_record(kind: str, prefix: bytes, key: bytes, clause: str, offset: int, body: bytes) -> None:
        broken.append(
            {"kind": kind, "key": prefix + key, "user_key": key, "clause": clause, "offset": offset, "body": body}
        )

    def show(kind: str, key: bytes, payload: bytes, expiry_ms: int | None) -> None:
        segment = segment_of(key)
        result.files[f"{base}/{kind}/{segment}.bin"] = payload
        if segment[32:34] == "__" and segment[:32] == hashlib.sha256(key).hexdigest()[:32]:
            keymap.setdefault(segment, key)
        if expiry_ms is not None:
            rows[kind].append((segment, expiry_ms))

    def take(records: dict[bytes, tuple[bytes, int]], kind: str, prefix: bytes, envelope_kind: int) -> None:
        fates = result.hlls if kind == "hll" else result.strings
        for key in sorted(records, key=canonical):
            body, offset = records[key]
            if kind not in want:
                fates["excluded"] += 1
                continue
            if types[key] != {id(hll): "hll", id(string): "string", id(bare): "bare"}[id(records)]:
                fates["shadowed"] += 1
                continue
            try:
                payload, expiry_ms, enveloped = (
                    (body, None, False) if records is bare else read_value(body, envelope_kind)
                )
                if key in bad_rows and not enveloped:
                    raise UnreadableError("RTTL-1", 0)
            except UnreadableError as unreadable:
                clause, place = unreadable.args
                fates["unreadable"] += 1
                break_record("hll" if kind == "hll" else "string", prefix, key, clause, offset + place, body)
                continue
            fates["written"] += 1
            show(kind, key, payload, expiry_ms)

    take(hll, "hll", b"!redis|hll|", 2)
    take(string, "strings", b"!redis|str|", 1)
    take(bare, "strings", b"", 0)

    for type_, directory in collection_model.DIRECTORIES.items():
        getattr(result, directory)["orphan" if directory in want else "excluded"] += strays[type_]
    for key in sorted(by_key, key=canonical):
        for type_, kinds in by_key[key].items():
            directory = collection_model.DIRECTORIES[type_]
            fates = getattr(result, directory)
            count = sum(len(records) for records in kinds.values())
            if directory not in want:
                fates["excluded"] += count
            elif types[key] is None:
                fates["orphan"] += count
            elif types[key] != type_:
                fates["shadowed"] += count
            else:
                if type_ != "stream" and kinds.get("element"):
                    fates["shadowed"] += len(kinds.get("packed", {}))
                    count -= len(kinds.get("packed", {}))
                try:
                    if salvage and key in bad_rows and not collection_model.decides_alone(type_, kinds):
                        raise collection_model.bad("RTTL-1", collection_model.first_record(kinds))
                    shown = collection_model.show(type_, kinds, ttl[key][0] if key in ttl else None)
                except collection_model.BadRecordError as error:
                    clause, offset, storage_key, body = error.args
                    fates["unreadable"] += count
                    broken.append(
                        {"kind": type_, "key": storage_key, "user_key": key, "clause": clause, "offset": offset,
                         "body": body}
                    )  # fmt: skip
                    continue
                fates["unread"] += shown.unread
                fates["written"] += count - shown.unread
                result.collections[type_] += 1
                segment = segment_of(key)
                suffix = collection_model.SUFFIXES.get(type_, ".json")
                result.files[f"{base}/{directory}/{segment}{suffix}"] = shown.content
                if segment[32:34] == "__" and segment[:32] == hashlib.sha256(key).hexdigest()[:32]:
                    keymap[segment] = key

    examples = result.about.setdefault("orphan-ttl", [])
    for key in sorted(ttl, key=canonical):
        body, offset = ttl[key]
        if key in bad_rows:
            result.ttls["unreadable"] += 1
            break_record("ttl", b"!redis|ttl|", key, "RTTL-1", offset, body)
            continue
        type_ = types[key] or ""
        kind, enveloped = collection_model.DIRECTORIES.get(type_, ""), False
        if type_ == "string":
            kind, enveloped = "strings", string[key][0][:2] == b"\xff\x01"
        elif type_ == "bare":
            kind = "strings"
        elif type_ == "hll":
            kind, enveloped = "hll", hll[key][0][:2] == b"\xff\x02"
        elif type_:
            enveloped = collection_model.decides_alone(type_, by_key[key][type_])
        if not type_:
            result.ttls["orphan"] += 1
            if len(examples) < 8:
                examples.append(segment_of(key))
        elif kind not in want:
            result.ttls["excluded"] += 1
        elif enveloped:
            result.ttls["redundant"] += 1
        else:
            result.ttls["applied"] += 1
            if kind in rows:
                rows[kind].append((segment_of(key), min(MOST_MS, int.from_bytes(body, "big"))))

    for kind, name in (("strings", "strings_ttl.jsonl"), ("hll", "hll_ttl.jsonl")):
        if rows[kind]:
            lines = [{"key": segment, "expire_at_ms": expiry_ms} for segment, expiry_ms in rows[kind]]
            result.files[f"{base}/{name}"] = json_lines(lines)
    if keymap:
        lines = [
            {"encoded": segment, "original": base64url(key), "kind": "sha-fallback"} for segment, key in keymap.items()
        ]
        result.files[f"{base}/KEYMAP.jsonl"] = json_lines(lines)
    return broken


def _list_unreadable(broken: list[dict[str, Any]], base: str, result: Expected) -> None:
    """[SALV-6] [SALV-7] [SALV-8]"""
    lines = []
    for each in broken:
        segment = segment_of(each["user_key"])
        result.files[f"{base}/unreadable/{segment}.{each['kind']}.bin"] = each["body"]
        lines.append(
            {
                "segment": segment,
                "storage_key": base64url(each["key"]),
                "offset": each["offset"],
                "clause": each["clause"],
                "kind": each["kind"],
            }
        )
    if lines:
        result.files[f"{base}/unreadable.jsonl"] = json_lines(lines)
    result.about["unreadable-value"] = [line["segment"] for line in lines[:16]]
    result.unreadable = len(lines)


def beginnings(entries: Iterable[tuple[bytes, bytes]], unknown: set[bytes]) -> list[str]:
    """What the warning shows of unknown keys, in the order of the file. [KEYS-9]"""
    shown: list[str] = []
    for key, _ in entries:
        if key[:-8] in unknown:
            start = key[:-8][:64]
            bars = [place for place, byte in enumerate(start) if byte == ord("|")]
            text = percent(start[: bars[1] + 1] if len(bars) > 1 else start)
            if text not in shown:
                shown.append(text)
    return shown[:16]


def _warnings(result: Expected, everything: bool, own: str) -> list[tuple[str, int, list[str]]]:
    """All but those that the file itself gives. [COMP-5]"""
    warnings: list[tuple[str, int, list[str]]] = [("future-version", result.entries["future"], [])]
    if everything:
        warnings.append(("unknown-prefix", result.entries["unknown"], result.about["unknown-prefix"]))
        warnings += [("undecoded-type", result.undecoded[name], [name]) for name in TABLE["undecoded"]]
        if result.entries["unknown"]:
            result.reasons.append(("unknown-prefix", "unknown", result.entries["unknown"]))
        for name in TABLE["undecoded"]:
            if result.undecoded[name]:
                result.reasons.append(("undecoded-type", name, result.undecoded[name]))
    warnings.append(("orphan-ttl", result.ttls["orphan"], result.about["orphan-ttl"]))
    warnings.append(("unreadable-value", result.unreadable, result.about["unreadable-value"]))
    if result.unreadable:
        result.reasons.append(("unreadable-value", own, result.unreadable))
    return [warning for warning in warnings if warning[1]]


def expected_counters(result: Expected) -> dict[str, dict[str, int]]:
    """[COMP-9]"""
    names = dict(OUTCOMES["counters"])
    names["undecoded"] = list(TABLE["undecoded"])
    return {
        group: {name: getattr(result, group)[name] for name in names[group]}
        for group in (
            "entries",
            "undecoded",
            "strings",
            "hlls",
            "hashes",
            "lists",
            "sets",
            "zsets",
            "streams",
            "collections",
            "ttls",
        )
    }


def expected_manifest(
    result: Expected,
    *,
    path: str,
    crc32c: str | None,
    last_commit: int,
    wall_time: str,
    database: int,
    everything: bool,
) -> dict[str, Any]:
    """MANIFEST.json without the words of warnings, for a file whose name gives no index. [MANI-1]"""
    warnings = [(name, count, about) for name, count, about in result.warnings]
    if crc32c is None:
        warnings.insert(0, ("no-footer", 1, []))
    adapters: dict[str, Any] = {}
    for adapter, types in (
        ("dynamodb", ["dynamodb"]),
        ("s3", ["s3"]),
        ("redis", []),
        ("sqs", ["sqs"]),
    ):
        if adapter == "redis" and result.files:
            adapters["redis"] = {"databases": [database]}
        elif not any(result.undecoded[name] for name in types) and (everything or adapter == "redis"):
            hidden = adapter == "redis" and any(
                result.entries[name] for name in ("string", "bare", "hll", *collection_model.TYPES)
            )
            if not hidden:
                adapters[adapter] = {}
    return {
        "format_version": 1,
        "phase": "phase0-snapshot-decode",
        **({"last_commit_ts": last_commit} if last_commit else {}),
        "wall_time_iso": wall_time,
        "source": {"fsm_path": path, **({"fsm_crc32c": crc32c} if crc32c is not None else {})},
        "adapters": adapters,
        "exclusions": {
            "include_incomplete_uploads": False,
            "include_orphans": False,
            "preserve_sqs_visibility": False,
            "include_sqs_side_records": False,
        },
        "checksum_algorithm": "sha256",
        "checksum_format": "sha256sum",
        "encoded_filename_charset": "rfc3986-unreserved-plus-percent",
        "key_segment_max_bytes": 240,
        "s3_meta_suffix": ".elastickv-meta.json",
        "s3_collision_strategy": "leaf-data-suffix",
        "dynamodb_layout": "per-item",
        "outcome": {
            "database": database,
            "complete": not result.reasons,
            "partial_reasons": [
                {"reason": reason, "about": name, "count": count} for reason, name, count in result.reasons
            ],
            "warnings": [{"name": name, "count": count, "about": about} for name, count, about in warnings],
            "counters": expected_counters(result),
            "earlier": [],
        },
    }


def base64url(data: bytes) -> str:
    """[KMAP-1]"""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def json_lines(objects: Iterable[dict[str, Any]]) -> bytes:
    """[RTTL-14] [KMAP-1]"""
    return b"".join(json.dumps(each, separators=(",", ":")).encode() + b"\n" for each in objects)


def checksums(files: dict[str, bytes]) -> bytes:
    """[SUMS-1] [SUMS-3]"""
    return b"".join(
        hashlib.sha256(files[path]).hexdigest().encode() + b"  " + path.encode() + b"\n"
        for path in sorted(files, key=str.encode)
    )


# ---- the file itself ----


class RefusedError(Exception):
    """What is wrong with a file: fault, clause, offset."""


@dataclass
class Read:
    """What a sound file holds."""

    entries: list[tuple[bytes, bytes]]
    last_commit: int
    place: int
    """Where the first entry stands."""
    has_footer: bool


def read_file(data: bytes) -> Read:
    """Read a snapshot, byte by byte. Raises `RefusedError` as FILE, VISI-1 to VISI-6, OUTC-3 and OUTC-4 say."""
    place, has_header = read_header(data)
    magic = data[place : place + 8]
    if magic == b"EKVSSTI1":
        raise RefusedError("unsupported", "FILE-7", place)
    require_magic(magic, place, [b"EKVPBBL1", b"EKVSSTI1"] if has_header else [b"EKVPBBL1", b"EKVSSTI1", *HEADERS])
    require_bytes(data, place + 8, 8, "FILE-9")
    last_commit = int.from_bytes(data[place + 8 : place + 16], "little")
    place += 16
    entries: list[tuple[bytes, bytes]] = []
    offsets: list[tuple[int, int]] = []
    begin, previous = place, None
    while len(data) - place not in (0, 4):
        start = place
        key, place = take(data, place, 1_048_584, "FILE-12")
        # The order is at the entry's own offset, which is below those of its value. [OUTC-4]
        if previous is not None and key <= previous:
            raise RefusedError("out-of-order", "FILE-16", start)
        value, place = take(data, place, 268_435_499, "FILE-13")
        previous = key
        entries.append((key, value))
        offsets.append((start + 8, place - len(value)))
    has_footer = place < len(data)
    if has_header and not has_footer:
        raise RefusedError("truncated", "FILE-19", place)
    if has_footer and google_crc32c.value(data[:place]).to_bytes(4, "big") != data[place:]:
        raise RefusedError("footer-mismatch", "FILE-18", place)
    for (key, value), (key_offset, value_offset) in zip(entries, offsets, strict=True):
        if not is_operational(key, value):
            judge_header(key, value, key_offset, value_offset)
    return Read(entries, last_commit, begin, has_footer)


HEADERS = [b"EKVTHLC1", b"EKVTHLC2"]


def read_header(data: bytes) -> tuple[int, bool]:
    """Where the payload part begins, and whether there is a header. [FILE-1] to [FILE-10]"""
    if data[:8] == b"EKVTHLC1":
        require_bytes(data, 8, 8, "FILE-9")
        return 16, True
    if data[:8] == b"EKVTHLC2":
        require_bytes(data, 8, 2, "FILE-9")
        size = int.from_bytes(data[8:10], "big")
        if not 16 <= size <= 1024:
            raise RefusedError("bad-header", "FILE-4", 8)
        require_bytes(data, 10, size, "FILE-9")
        return 10 + size, True
    if data[:7] == b"EKVTHLC" and len(data) > 7:
        raise RefusedError("unsupported", "FILE-5", 7)
    return 0, False


def require_magic(found: bytes, place: int, magics: list[bytes]) -> None:
    """[FILE-8] [FILE-10]"""
    if len(found) < 8 and any(magic.startswith(found) for magic in magics):
        raise RefusedError("truncated", "FILE-9", place)
    if found != b"EKVPBBL1":
        raise RefusedError("bad-magic", "FILE-8", place)


def require_bytes(data: bytes, place: int, size: int, clause: str) -> None:
    if len(data) < place + size:
        raise RefusedError("truncated", clause, place)


def take(data: bytes, place: int, limit: int, clause: str) -> tuple[bytes, int]:
    """A key or a value with its size in front, and where the next thing stands. [FILE-12] to [FILE-15]"""
    require_bytes(data, place, 8, "FILE-15")
    size = int.from_bytes(data[place : place + 8], "little")
    if size > limit:
        raise RefusedError("too-large", clause, place)
    require_bytes(data, place + 8, size, "FILE-15")
    return data[place + 8 : place + 8 + size], place + 8 + size


def judge_header(key: bytes, value: bytes, key_offset: int, value_offset: int) -> None:
    """[VISI-1] to [VISI-6]"""
    if len(key) < 8:
        raise RefusedError("too-short", "VISI-1", key_offset)
    if len(value) < 9:
        raise RefusedError("too-short", "VISI-2", value_offset)
    if value[0] >> 3:
        raise RefusedError("reserved-bits", "VISI-3", value_offset)
    if value[0] & 4:
        raise RefusedError("reserved-bits", "VISI-4", value_offset)
    if value[0] & 2:
        raise RefusedError("encrypted", "VISI-5", value_offset)
