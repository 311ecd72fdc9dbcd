"""The spec's example of a MANIFEST.json, and the same with other members."""

import json
from typing import Any

from spec import blocks

EXAMPLE = blocks("json")["mani-example"]


def edited(**members: Any) -> dict[str, Any]:
    """Return the example with members replaced, or left out if `...`; `a__b` is member `b` of `a`."""
    manifest: dict[str, Any] = json.loads(EXAMPLE)
    for name, value in members.items():
        holder, _, member = name.rpartition("__")
        place = manifest[holder] if holder else manifest
        if value is ...:
            place.pop(member)
        else:
            place[member] = value
    return manifest
