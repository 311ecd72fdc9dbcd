"""MANIFEST.json: what a dump was made from. Implements spec chapter MANI."""

import json
import re
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeGuard

from ekvdump.format import keys
from ekvdump.format.outcomes import InvalidManifest, Outcome, UnsupportedManifest, os_path_bytes
from ekvdump.format.segments import MAX_SEGMENT_SIZE, refuse_constant

FORMAT_VERSION: Final = 1
"""The version that this module writes, and the newest it reads. [MANI-10]"""
MAX_MANIFEST_SIZE: Final = 16 * 1024 * 1024
"""Bytes. [MANI-23]"""
PHASE_SNAPSHOT: Final = "phase0-snapshot-decode"
"""From a snapshot file. [MANI-2]"""
PHASE_LIVE: Final = "phase1-live-pinned"
"""From a live node. [MANI-13]"""
EXCLUSIONS: Final = (
    "include_incomplete_uploads",
    "include_orphans",
    "preserve_sqs_visibility",
    "include_sqs_side_records",
)
"""All four are always there. [MANI-5] [MANI-16]"""
POLICY: Final = {
    "checksum_algorithm": "sha256",
    "checksum_format": "sha256sum",
    "encoded_filename_charset": "rfc3986-unreserved-plus-percent",
    "key_segment_max_bytes": MAX_SEGMENT_SIZE,
    "s3_meta_suffix": ".elastickv-meta.json",
    "s3_collision_strategy": "leaf-data-suffix",
    "dynamodb_layout": "per-item",
}
"""How the tree is to be read. [MANI-17]"""
ADAPTERS: Final = ("dynamodb", "s3", "redis", "sqs")
"""In this order. [MANI-6]"""
RFC3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
"""A time, up to nanoseconds. [MANI-14]"""


class Provenance(NamedTuple):
    """What a manifest says about where the dump comes from."""

    fsm_path: str
    fsm_crc32c: int | None = None
    snapshot_index: int | None = None
    last_commit_ts: int = 0
    wall_time: str | None = None
    """RFC 3339 UTC; None for the time of the run. [MANI-3]"""
    cluster_id: str | None = None
    elastickv_version: str | None = None


def is_utc_time(text: str) -> bool:
    """Say whether a text is an RFC 3339 time in UTC. [MANI-3]"""
    return is_rfc3339_time(text) and text.endswith("Z")


def is_rfc3339_time(text: str) -> bool:
    """Say whether a text is an RFC 3339 time. [MANI-14]"""
    match = RFC3339.fullmatch(text)
    if match is None:
        return False
    try:
        datetime.fromisoformat(f"{match[1]}{match[3].upper()}")
    except ValueError:
        return False
    return True


def render_manifest(
    provenance: Provenance, outcome: Outcome, database: int, databases: list[int], before: bytes | None, *, only: bool
) -> bytes:
    """Render MANIFEST.json. [MANI-1] [MANI-19]

    `database` is the index of the run, `databases` are those that hold something [MANI-8],
    `before` is the MANIFEST.json that was there before [MANI-24]; `only` says that the caller
    named the types wanted, and so excluded the other adapters.
    """
    source: dict[str, Any] = {"fsm_path": text_of(provenance.fsm_path)}
    if provenance.fsm_crc32c is not None:
        source["fsm_crc32c"] = f"{provenance.fsm_crc32c:08x}"

    adapters: dict[str, Any] = {}
    for adapter in ADAPTERS:
        types = tuple(keys.COLLECTIONS) if adapter == "redis" else (adapter,)
        if adapter == "redis" and databases:
            adapters[adapter] = {"databases": databases}  # [MANI-6] [MANI-8]
        elif only and adapter != "redis":
            continue  # [MANI-20]
        elif not any(outcome.counters.undecoded[type_] for type_ in types) and not (
            adapter == "redis" and outcome.counters.showable_count
        ):
            adapters[adapter] = {}  # [MANI-6]; otherwise [MANI-7]

    optional = {
        "elastickv_version": text_of(provenance.elastickv_version),
        "cluster_id": text_of(provenance.cluster_id),
        "snapshot_index": provenance.snapshot_index,
        "last_commit_ts": provenance.last_commit_ts,
    }
    manifest = {
        "format_version": FORMAT_VERSION,
        "phase": PHASE_SNAPSHOT,
        **{name: value for name, value in optional.items() if value},
        "wall_time_iso": provenance.wall_time or datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "source": source,
        "adapters": adapters,
        "exclusions": dict.fromkeys(EXCLUSIONS, False),
        **POLICY,
        "outcome": {
            "database": database,
            **render_outcome(outcome),
            "earlier": render_earlier([each for each in databases if each != database], before),
        },
    }
    return (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


def text_of(word: str | None) -> str | None:
    """Return a word of the caller's as text. [MANI-4]"""
    return None if word is None else os_path_bytes(word).decode("utf-8", "backslashreplace")


def render_outcome(outcome: Outcome) -> dict[str, Any]:
    """Render how the run ended. [MANI-9] [OUTC-11] [OUTC-16]"""
    return {
        "complete": outcome.complete,
        "partial_reasons": [reason._asdict() for reason in outcome.partial_reasons],
        "warnings": [warning._asdict() for warning in outcome.warnings],
        "counters": outcome.counters.by_group(),
    }


def render_earlier(databases: list[int], before: bytes | None) -> list[dict[str, Any]]:
    """Render what is known of the databases that this run did not write. [MANI-24]"""
    known: dict[int, dict[str, Any]] = {}
    try:
        manifest = decode_manifest(before or b"")
    except (InvalidManifest, UnsupportedManifest):
        manifest = {}
    outcome = manifest.get("outcome")
    if isinstance(outcome, dict):
        source = manifest.get("source")
        own = {**outcome, "fsm_path": source.get("fsm_path") if isinstance(source, dict) else None}
        earlier = outcome.get("earlier")
        for each in [*(earlier if isinstance(earlier, list) else []), own]:
            if isinstance(each, dict) and is_number(each.get("database")):
                known[each["database"]] = each
    return [{"database": database, **_kept(known.get(database, {}))} for database in databases]


def _kept(told: dict[str, Any]) -> dict[str, Any]:
    """Return what is to be kept of what an earlier manifest told of a database; null for what makes no sense."""
    complete, reasons, fsm_path = told.get("complete"), told.get("partial_reasons"), told.get("fsm_path")
    return {
        "complete": complete if isinstance(complete, bool) else None,
        "partial_reasons": [
            {"reason": each["reason"], "about": each["about"], "count": each["count"]}
            for each in (reasons if isinstance(reasons, list) else [])
            if isinstance(each, dict)
            and is_text(each.get("reason"))
            and is_text(each.get("about"))
            and is_number(each.get("count"))
        ],
        "fsm_path": fsm_path if is_text(fsm_path) else None,
    }


def is_text(value: object) -> TypeGuard[str]:
    """Say whether a JSON value is a string that can be written again. JSON can spell surrogates, UTF-8 cannot."""
    return isinstance(value, str) and value.encode("utf-8", "replace") == value.encode("utf-8", "surrogatepass")


def decode_manifest(text: bytes, path: str = "MANIFEST.json") -> dict[str, Any]:
    """Decode and judge a MANIFEST.json; return its members, those of newer versions included. [MANI-12]

    Raises `InvalidManifest` or `UnsupportedManifest`.
    """

    def require(holds: bool, clause: str, detail: str) -> None:
        if not holds:
            raise InvalidManifest(clause, detail, None, path)

    # [MANI-23]
    require(len(text) <= MAX_MANIFEST_SIZE, "MANI-23", f"more than {MAX_MANIFEST_SIZE} bytes")
    # [MANI-11]
    try:
        manifest = json.loads(text.decode("utf-8"), parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidManifest("MANI-11", f"not one JSON object: {error}", None, path) from error
    if not isinstance(manifest, dict):
        raise InvalidManifest("MANI-11", "not a JSON object", None, path)

    # [MANI-10] The version first: what it does not know it cannot judge.
    require_known_version(manifest.get("format_version"), path)

    # [MANI-13]
    phase = manifest.get("phase")
    require(phase in (PHASE_SNAPSHOT, PHASE_LIVE), "MANI-13", f"phase {phase!r} is not known")
    # [MANI-14]
    wall_time = manifest.get("wall_time_iso")
    valid_time = isinstance(wall_time, str) and is_rfc3339_time(wall_time)
    require(valid_time, "MANI-14", f"wall_time_iso {wall_time!r} is no RFC 3339 time")
    # [MANI-15]
    for name in ("adapters", "exclusions"):
        require(isinstance(manifest.get(name), dict), "MANI-15", f"{name} is missing, null or no object")
    # [MANI-16]
    for name in EXCLUSIONS:
        flag = manifest["exclusions"].get(name)
        require(isinstance(flag, bool), "MANI-16", f"exclusions.{name} is missing, null or no boolean")
    # [MANI-17]
    for name, ours in POLICY.items():
        value = manifest.get(name)
        fits = is_number(value) and value > 0 if isinstance(ours, int) else isinstance(value, str) and value != ""
        require(fits, "MANI-17", f"{name} is missing, empty or of another kind")
    # [MANI-18] [MANI-21] [MANI-22]
    live = manifest.get("live")
    if phase == PHASE_SNAPSHOT:
        require(live is None, "MANI-18", "phase 0 has no `live`")
    else:
        require(manifest.get("source") is None, "MANI-21", "phase 1 has no `source`")
        read_ts = live.get("read_ts") if isinstance(live, dict) else None
        require(is_number(read_ts) and read_ts != 0, "MANI-22", "phase 1 has `live` with a `read_ts` above 0")
    return manifest


def require_known_version(version: object, path: str = "MANIFEST.json") -> None:
    """Refuse a `format_version` that this module does not read. [MANI-10]

    Raises `InvalidManifest` for none at all, and `UnsupportedManifest`.
    """
    if not is_number(version):
        raise InvalidManifest("MANI-10", "format_version is missing or no number", None, path)
    if version != FORMAT_VERSION:
        detail = f"format_version {version}; this reads version {FORMAT_VERSION}"
        raise UnsupportedManifest("MANI-10", detail, None, path)


def is_number(value: object) -> TypeGuard[int]:
    """Say whether a JSON value is a whole number. To Python, `true` is one."""
    return isinstance(value, int) and not isinstance(value, bool)
