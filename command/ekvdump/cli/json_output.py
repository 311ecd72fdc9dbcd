"""The JSON object that each command prints with `--json`.

Its shape is specified in `command/output.schema.json`; the names, clauses and counters in it
are those of chapter OUTC.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ekvformat import outcomes
from ekvformat.outcomes import Fault
from ekvformat.segments import encode_base64url, encode_percent

from ekvdump import __version__
from ekvdump.cli.advice import advice_for
from ekvdump.inspection import Inspection
from ekvdump.outcome import Outcome
from ekvdump.queries.keys import Key
from ekvdump.queries.notation import word_of


def print_json(rendered: dict[str, Any]) -> None:
    """Print an object on one line."""
    print(json.dumps(rendered))


def render_envelope(command: str | None, exit_status: int, faults: Sequence[Fault] = ()) -> dict[str, Any]:
    """Render the members that every object begins with."""
    return {
        "command": command,
        "ekvdump_version": __version__,
        "exit_status": exit_status,
        "faults": [render_fault(fault) for fault in faults],
    }


def render_fault(fault: Fault) -> dict[str, Any]:
    """Render a fault or finding. [OUTC-1]"""
    return {
        "fault": fault.name,
        "clause": fault.clause,
        "offset": fault.offset,
        "path": None if fault.path is None else text_of_path(fault.path),
        "key": None if fault.key is None else encode_base64url(fault.key),
        "detail": fault.detail,
        "advice": advice_for(fault),
    }


def render_key(key: Key) -> dict[str, Any]:
    """Render a key without its value. `key` is as `ekvdump get` takes it."""
    return {
        "key": word_of(key.user_key),
        "key_base64url": encode_base64url(key.user_key),
        "type": key.type,
        "size": key.size,
        "expire_at_ms": key.expiry_ms,
    }


def render_outcome(outcome: Outcome | None) -> dict[str, Any]:
    """Render the outcome of a decode, or its empty members after a fault."""
    if outcome is None:
        return {"complete": None, "counters": None, "warnings": [], "partial_reasons": []}
    return {
        "complete": outcome.complete,
        "counters": vars(outcome.counters),
        "warnings": [warning._asdict() for warning in outcome.warnings],
        "partial_reasons": [reason._asdict() for reason in outcome.partial_reasons],
    }


def render_inspection(result: Inspection) -> dict[str, Any]:
    """Render the description of a snapshot."""
    first_pass = result.first_pass
    return {
        "size": result.size,
        "header_version": first_pass and first_pass.start.header_version,
        "footer": result.footer,
        "fsm_crc32c": f"{first_pass.fsm_crc32c:08x}" if first_pass and first_pass.fsm_crc32c is not None else None,
        "last_commit_ts": first_pass and first_pass.start.last_commit_ts,
        "last_commit_time": render_time(result.last_commit_ms) if result.last_commit_ms else None,
        "applied_index": first_pass and first_pass.applied_index,
        "name_index": result.name_index,
        "entries": first_pass and first_pass.counters.entries,
        "undecoded": first_pass and first_pass.counters.undecoded,
        "collections": first_pass and first_pass.counters.collections,
        "faulty_entries": first_pass.faulty_count if first_pass else 0,
        "versions": version_count(result),
        "tombstones": result.tombstone_count,
        "prefixes": result.prefixes,
        "unknown_beginnings": [encode_percent(beginning) for beginning in first_pass.beginnings] if first_pass else [],
        "expired_at_last_commit": result.expired,
        "unreadable": result.unreadable_count,
    }


def version_count(result: Inspection) -> int:
    """Return the number of versions: entries with sound headers that are not operational."""
    if result.first_pass is None:
        return 0
    entries = result.first_pass.counters.entries
    return sum(entries.values()) - entries["operational"]


def render_time(unix_ms: int) -> str:
    """Render a Unix time as RFC 3339 if the calendar can express it."""
    try:
        time = datetime.fromtimestamp(unix_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{unix_ms} ms after 1970"
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def text_of_path(path: str) -> str:
    r"""Return a path as text: backslashes doubled, bytes that are not UTF-8 as `\xHH`."""
    return outcomes.text_of_path(path.replace("\\", "\\\\"))
