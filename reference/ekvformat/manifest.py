"""MANIFEST.json: what a dump was made from. Implements spec chapter MANI.

One JSON object in UTF-8, two spaces of indent, LF at the end. [MANI-1] Its members,
in the order of the spec's table:

    format_version, phase
    elastickv_version, cluster_id          if the caller gave them
    snapshot_index, last_commit_ts         if they are not 0
    wall_time_iso, source
    adapters                               what was found, by adapter
    exclusions                             what was left out by choice
    checksum_algorithm .. dynamodb_layout  how the tree is to be read
    outcome                                how the run ended
"""

import json
import re
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, NoReturn, TypeGuard

from ekvformat import keys
from ekvformat.completeness import DumpWarning, partial_reasons
from ekvformat.decode import Options, Summary
from ekvformat.outcomes import Fault, text_of_path
from ekvformat.segments import MAX_SEGMENT_SIZE, encode_base64url
from ekvformat.tree import database_directory

MANIFEST_NAME: Final = "MANIFEST.json"
"""Written when all blobs and sidecars are whole. [SAFE-23]"""
FORMAT_VERSION: Final = 1
"""The version that is written, and the only one that is read. [READ-14]"""
MAX_MANIFEST_SIZE: Final = 16 * 1024 * 1024
"""Most bytes of a MANIFEST.json that is read. [READ-12]"""
MAX_DEPTH: Final = 64
"""Most levels of values in values. [CONV-11]"""
MAX_DIGITS: Final = 4000
"""Digits of a whole number that are looked at; with so many it is above every limit."""
MAX_COUNT: Final = 0xFFFF_FFFF_FFFF_FFFF
"""Greatest number that an earlier manifest may say. [INTO-8]"""
PHASE_SNAPSHOT: Final = "phase0-snapshot-decode"
"""From a snapshot file, and not from a live node. [MANI-3]"""
BASE64URL: Final = re.compile("[A-Za-z0-9_-]*")
"""The alphabet of base64url. [COMP-11]"""
EXCLUSIONS: Final = (
    "include_incomplete_uploads", "include_orphans", "preserve_sqs_visibility", "include_sqs_side_records"
)  # fmt: skip
"""Members of `exclusions`; all four are always there. [MANI-6]"""
POLICY: Final = {
    "checksum_algorithm": "sha256",
    "checksum_format": "sha256sum",
    "encoded_filename_charset": "rfc3986-unreserved-plus-percent",
    "key_segment_max_bytes": MAX_SEGMENT_SIZE,
    "s3_meta_suffix": ".elastickv-meta.json",
    "s3_collision_strategy": "leaf-data-suffix",
    "dynamodb_layout": "per-item",
}
"""How the tree is to be read. [READ-19]"""
TYPES_OF_ADAPTER: Final = {
    "dynamodb": ("dynamodb",),
    "s3": ("s3",),
    "redis": (),
    "sqs": ("sqs",),
}
"""Adapter, in the order of `adapters` [MANI-7] = its types that have no chapter."""
UTC_TIME: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?Z")
"""An RFC 3339 time in UTC, up to nanoseconds. [MANI-4]"""


class Provenance(NamedTuple):
    """What the caller says about the summary."""

    fsm_path: str
    """The path of the snapshot, as given. [MANI-5]"""
    wall_time: str | None = None
    """RFC 3339 UTC; None for the time of the run. [MANI-4]"""
    cluster_id: str | None = None
    elastickv_version: str | None = None


def is_utc_time(text: str) -> bool:
    """Return True for a time that the caller may give. [MANI-4]"""
    match = UTC_TIME.fullmatch(text)
    try:
        # The shape is the regular expression's to judge, day and hour are the calendar's.
        return match is not None and bool(datetime.fromisoformat(match[1]))
    except ValueError:
        return False


def render_manifest(
    summary: Summary, provenance: Provenance, warnings: list[DumpWarning], databases: list[int], earlier_manifest: bytes
) -> bytes:
    """Render MANIFEST.json. [MANI-1]

    `warnings` are those of the summary and of the tree, `databases` the indexes whose
    directory holds a file [MANI-10], and `earlier_manifest` is the MANIFEST.json that
    was there before this run, empty if there was none. [INTO-7]
    """
    # [MANI-5]
    source = {"fsm_path": text_of_path(provenance.fsm_path)}
    if summary.crc32c is not None:
        source["fsm_crc32c"] = f"{summary.crc32c:08x}"
    # Members that are absent if they are not given, empty, or 0.
    optional = {
        "elastickv_version": text_of_path(provenance.elastickv_version or ""),
        "cluster_id": text_of_path(provenance.cluster_id or ""),
        "snapshot_index": summary.snapshot_index,
        "last_commit_ts": summary.last_commit_ts,
    }
    manifest = {
        "format_version": FORMAT_VERSION,
        "phase": PHASE_SNAPSHOT,
        **{name: value for name, value in optional.items() if value},
        "wall_time_iso": provenance.wall_time or datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "source": source,
        "adapters": render_adapters(summary, databases),
        "exclusions": dict.fromkeys(EXCLUSIONS, False),
        **POLICY,
        "outcome": render_outcome(summary, warnings, databases, earlier_manifest),
    }
    # [MANI-2]
    return (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


def render_adapters(summary: Summary, databases: list[int]) -> dict[str, Any]:
    """Render what was found for each adapter."""
    counters = summary.counters
    # [MANI-7] A TTL record alone is not a key.
    has_keys = any(counters.entries[type_] for type_ in (keys.STRING, keys.BARE, keys.HLL, *keys.COLLECTIONS))
    adapters: dict[str, Any] = {}
    for adapter, types in TYPES_OF_ADAPTER.items():
        is_redis = adapter == "redis"
        has_records = any(counters.undecoded[type_] for type_ in types) or (is_redis and has_keys)
        # [MANI-9] Whoever names the types wanted excludes all others.
        is_excluded = summary.options.only is not None and not is_redis
        if is_redis and databases:
            adapters[adapter] = {"databases": databases}  # [MANI-7]
        elif not is_excluded and not has_records:
            adapters[adapter] = {}  # [MANI-7]
        # [MANI-8] Otherwise it is absent: `{}` would say that nothing was found.
    return adapters


def render_outcome(
    summary: Summary, warnings: list[DumpWarning], databases: list[int], earlier_manifest: bytes
) -> dict[str, Any]:
    """Render how the run ended. [MANI-11]"""
    database = max(0, summary.options.database)
    reasons = partial_reasons(warnings, database_directory(database))
    others = [other for other in databases if other != database]
    return {
        "database": database,
        **render_part(summary.options),
        "complete": not reasons,
        "partial_reasons": [reason._asdict() for reason in reasons],  # [COMP-6]
        "warnings": [warning._asdict() for warning in warnings],  # [COMP-5]
        "counters": vars(summary.counters),  # [COMP-9]
        "earlier": render_earlier(others, earlier_manifest),
    }


def render_part(options: Options) -> dict[str, Any]:
    """Render which keys the caller wanted; nothing if the dump is not a part. [COMP-11]"""
    wanted = {"key": options.key, "prefix": options.prefix}
    part = {name: encode_base64url(value) for name, value in wanted.items() if value is not None}
    return {"part": part} if part else {}


def render_earlier(databases: list[int], earlier_manifest: bytes) -> list[dict[str, Any]]:
    """Render what an earlier MANIFEST.json said of the databases that this run did not write. [INTO-7]"""
    manifest = decode_members(earlier_manifest)
    outcome = object_of(manifest.get("outcome"))
    own = outcome | {"fsm_path": object_of(manifest.get("source")).get("fsm_path")}
    # Its own database counts last: what it wrote is newer than what it repeated.
    said = [*objects_of(outcome.get("earlier")), own]
    known = {each["database"]: each for each in said if is_count(each.get("database"))}
    return [{"database": database, **render_said(known.get(database, {}))} for database in databases]


def render_said(said: dict[str, Any]) -> dict[str, Any]:
    """Render the members that are kept of a database; null for what was not said, or makes no sense. [INTO-8]"""
    complete, fsm_path = said.get("complete"), said.get("fsm_path")
    reasons = [
        {name: reason[name] for name in ("reason", "about", "count")}
        for reason in objects_of(said.get("partial_reasons"))
        if is_text(reason.get("reason")) and is_text(reason.get("about")) and is_count(reason.get("count"))
    ]
    part = object_of(said.get("part"))
    is_part = len(part) == 1 and any(is_base64url(part.get(name)) for name in ("key", "prefix"))
    return {
        **({"part": part} if is_part else {}),
        "complete": complete if isinstance(complete, bool) else None,
        "partial_reasons": reasons,
        "fsm_path": fsm_path if is_text(fsm_path) else None,
    }


def decode_members(text: bytes) -> dict[str, Any]:
    """Return the members of a MANIFEST.json of this version; {} for one that cannot be read. [INTO-8]"""
    try:
        members = object_of(decode_json(text))  # [READ-13]
    except ValueError:
        return {}
    # [READ-14] Another version may have changed the other members. [READ-12]
    version = members.get("format_version")
    is_known = is_number(version) and version == FORMAT_VERSION and len(text) <= MAX_MANIFEST_SIZE
    return members if is_known else {}


def decode_json(text: bytes) -> Any:
    """Decode JSON. Raises `ValueError` for what is not. [CONV-11]"""
    try:
        value = json.loads(text.decode("utf-8"), parse_int=decode_integer, parse_constant=refuse_constant)
    except RecursionError as error:
        raise ValueError("values are nested too deep") from error
    depth, level = 0, [value]
    while nested := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"values are nested more than {MAX_DEPTH} levels deep")
        level = [inner for each in nested for inner in (each.values() if isinstance(each, dict) else each)]
    return value


def decode_integer(digits: str) -> int:
    """Decode a whole number; Python itself refuses very long ones, whose exact value plays no part. [CONV-11]"""
    return int(digits[:MAX_DIGITS])


def refuse_constant(word: str) -> NoReturn:
    """Refuse `NaN` and the infinities, which Python takes for JSON. [CONV-11]"""
    raise ValueError(f"{word} is not JSON")


def check_size(manifest: bytes, path: str) -> bytes:
    """Return a rendered MANIFEST.json; refuse one that no reader would take. [INTO-9]"""
    if len(manifest) > MAX_MANIFEST_SIZE:
        detail = f"with what the earlier one says it would have more than {MAX_MANIFEST_SIZE} bytes"
        raise Fault("unsafe-path", "INTO-9", detail, None, path)
    return manifest


def object_of(value: object) -> dict[str, Any]:
    """Return a JSON object as it is, and {} for anything else."""
    return value if isinstance(value, dict) else {}


def objects_of(value: object) -> list[dict[str, Any]]:
    """Return the objects of a JSON array, and [] for anything else."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def is_number(value: object) -> TypeGuard[int]:
    """Return True for a whole number of JSON. To Python, `true` is one."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_count(value: object) -> TypeGuard[int]:
    """Return True for a number that an earlier manifest may say. [INTO-8]"""
    return is_number(value) and 0 <= value <= MAX_COUNT


def is_base64url(value: object) -> bool:
    """Return True for text that is base64url without padding. [READ-3]"""
    return isinstance(value, str) and BASE64URL.fullmatch(value) is not None and len(value) % 4 != 1


def is_text(value: object) -> TypeGuard[str]:
    """Return True for a string that UTF-8 can spell: JSON can spell lone surrogates too. [CONV-11]"""
    return isinstance(value, str) and value.encode("utf-8", "replace") == value.encode("utf-8", "surrogatepass")
