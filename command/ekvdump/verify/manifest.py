"""MANIFEST.json of any version and origin. Implements part of spec chapter READ.

The writing half, with the policy that it states, is `ekvformat.manifest`.
"""

import re
from datetime import datetime
from typing import Any, Final

from ekvformat.manifest import (
    EXCLUSIONS,
    FORMAT_VERSION,
    MANIFEST_NAME,
    MAX_MANIFEST_SIZE,
    PHASE_SNAPSHOT,
    POLICY,
    decode_json,
    is_number,
    is_text,
)

from ekvdump.verify.findings import Finding

PHASE_LIVE: Final = "phase1-live-pinned"
"""From a live node. [READ-15]"""
RFC3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
"""A time, up to nanoseconds. [READ-16]"""


def is_rfc3339_time(text: str) -> bool:
    """Return True for an RFC 3339 time. [READ-16]"""
    match = RFC3339.fullmatch(text)
    if match is None:
        return False
    try:
        datetime.fromisoformat(f"{match[1]}{match[3].upper()}")
    except ValueError:
        return False
    return True


def decode_manifest(text: bytes, path: str = MANIFEST_NAME) -> dict[str, Any]:
    """Decode and judge a MANIFEST.json; return its members, those of newer versions included. [READ-23]

    Raises `invalid-manifest` or `unsupported-manifest`.
    """

    def require(holds: bool, clause: str, detail: str) -> None:
        if not holds:
            raise Finding("invalid-manifest", clause, detail, None, path)

    # [READ-24] The first rule that is broken, in this order.
    # [READ-12]
    require(len(text) <= MAX_MANIFEST_SIZE, "READ-12", f"more than {MAX_MANIFEST_SIZE} bytes")
    # [READ-13]
    try:
        manifest = decode_json(text)
    except ValueError as error:
        raise Finding("invalid-manifest", "READ-13", f"not one JSON object: {error}", None, path) from error
    if not isinstance(manifest, dict):
        raise Finding("invalid-manifest", "READ-13", "not a JSON object", None, path)

    # [READ-14] The version first: what it does not know it cannot judge.
    require_known_version(manifest.get("format_version"), path)

    # [READ-15]
    phase = manifest.get("phase")
    require(phase in (PHASE_SNAPSHOT, PHASE_LIVE), "READ-15", f"phase {phase!r} is not known")
    # [READ-16]
    wall_time = manifest.get("wall_time_iso")
    valid_time = isinstance(wall_time, str) and is_rfc3339_time(wall_time)
    require(valid_time, "READ-16", f"wall_time_iso {wall_time!r} is not an RFC 3339 time")
    # [READ-17]
    for name in ("adapters", "exclusions"):
        require(isinstance(manifest.get(name), dict), "READ-17", f"{name} is missing, null or no object")
    # [READ-18]
    for name in EXCLUSIONS:
        flag = manifest["exclusions"].get(name)
        require(isinstance(flag, bool), "READ-18", f"exclusions.{name} is missing, null or no boolean")
    # [READ-19]
    for name, ours in POLICY.items():
        value = manifest.get(name)
        fits = is_number(value) and value > 0 if isinstance(ours, int) else is_text(value) and value != ""
        require(fits, "READ-19", f"{name} is missing, empty or of another kind")
    # [READ-20] [READ-21] [READ-22]
    live = manifest.get("live")
    if phase == PHASE_SNAPSHOT:
        require(live is None, "READ-20", "phase 0 has no `live`")
    else:
        require(manifest.get("source") is None, "READ-21", "phase 1 has no `source`")
        read_ts = live.get("read_ts") if isinstance(live, dict) else None
        require(is_number(read_ts) and read_ts != 0, "READ-22", "phase 1 has `live` with a `read_ts` above 0")
    return manifest


def require_known_version(version: object, path: str = MANIFEST_NAME) -> None:
    """Refuse a `format_version` that this module does not read. [READ-14]

    Raises `invalid-manifest` for none at all, and `unsupported-manifest`.
    """
    if not is_number(version):
        raise Finding("invalid-manifest", "READ-14", "format_version is missing or no number", None, path)
    if version != FORMAT_VERSION:
        detail = f"format_version {version}; this reads version {FORMAT_VERSION}"
        raise Finding("unsupported-manifest", "READ-14", detail, None, path)


def says_part(manifest: dict[str, Any]) -> bool:
    """Return True if a manifest says that its dump is a part of a store. [COMP-11]"""
    outcome = manifest.get("outcome")
    return isinstance(outcome, dict) and "part" in outcome


def says_complete(manifest: dict[str, Any]) -> bool | None:
    """Return True if a manifest says that all databases are complete, False if one is not; None if it does not say."""
    outcome = manifest.get("outcome")
    if not isinstance(outcome, dict):
        return None
    # [INTO-7] One database that is not known to be complete is enough for None.
    earlier = outcome.get("earlier")
    every = [outcome, *(earlier if isinstance(earlier, list) else [])]
    answers = [each.get("complete") if isinstance(each, dict) else None for each in every]
    if False in answers:
        return False
    return True if all(each is True for each in answers) else None
