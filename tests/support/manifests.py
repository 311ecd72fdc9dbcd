"""The spec's example of a MANIFEST.json, and the same with other members."""

import json
import re
from typing import Any

from spec import text_of

(EXAMPLE,) = re.findall(r"^```json\n(.*?)^```", text_of("11-manifest.md"), re.MULTILINE | re.DOTALL)


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
