"""MANIFEST.json of any version and origin. Implements the reading half of spec chapter MANI.

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
)

from ekvdump.verify.findings import Finding

PHASE_LIVE: Final = "phase1-live-pinned"
"""From a live node. [MANI-13]"""
RFC3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
"""A time, up to nanoseconds. [MANI-14]"""


def is_rfc3339_time(text: str) -> bool:
    """Return True for an RFC 3339 time. [MANI-14]"""
    match = RFC3339.fullmatch(text)
    if match is None:
        return False
    try:
        datetime.fromisoformat(f"{match[1]}{match[3].upper()}")
    except ValueError:
        return False
    return True


def decode_manifest(text: bytes, path: str = MANIFEST_NAME) -> dict[str, Any]:
    """Decode and judge a MANIFEST.json; return its members, those of newer versions included. [MANI-12]

    Raises `invalid-manifest` or `unsupported-manifest`.
    """

    def require(holds: bool, clause: str, detail: str) -> None:
        if not holds:
            raise Finding("invalid-manifest", clause, detail, None, path)

    # [MANI-25] The first rule that is broken, in this order.
    # [MANI-23]
    require(len(text) <= MAX_MANIFEST_SIZE, "MANI-23", f"more than {MAX_MANIFEST_SIZE} bytes")
    # [MANI-11]
    try:
        manifest = decode_json(text)
    except ValueError as error:
        raise Finding("invalid-manifest", "MANI-11", f"not one JSON object: {error}", None, path) from error
    if not isinstance(manifest, dict):
        raise Finding("invalid-manifest", "MANI-11", "not a JSON object", None, path)

    # [MANI-10] The version first: what it does not know it cannot judge.
    require_known_version(manifest.get("format_version"), path)

    # [MANI-13]
    phase = manifest.get("phase")
    require(phase in (PHASE_SNAPSHOT, PHASE_LIVE), "MANI-13", f"phase {phase!r} is not known")
    # [MANI-14]
    wall_time = manifest.get("wall_time_iso")
    valid_time = isinstance(wall_time, str) and is_rfc3339_time(wall_time)
    require(valid_time, "MANI-14", f"wall_time_iso {wall_time!r} is not an RFC 3339 time")
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


def require_known_version(version: object, path: str = MANIFEST_NAME) -> None:
    """Refuse a `format_version` that this module does not read. [MANI-10]

    Raises `invalid-manifest` for none at all, and `unsupported-manifest`.
    """
    if not is_number(version):
        raise Finding("invalid-manifest", "MANI-10", "format_version is missing or no number", None, path)
    if version != FORMAT_VERSION:
        detail = f"format_version {version}; this reads version {FORMAT_VERSION}"
        raise Finding("unsupported-manifest", "MANI-10", detail, None, path)
