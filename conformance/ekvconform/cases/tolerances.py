"""What a decoder may do otherwise without being judged wrong. Implements spec chapter TOLE.

    name                    clause
    ----------------------  ------
    repeated-keymap-lines   TOLE-1
    stricter-modes          TOLE-2
    more-manifest-members   TOLE-3
    other-warnings          TOLE-4

Each function takes `strict`, the tolerances that a case withdraws.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

REPEATED_KEYMAP_LINES: Final = "repeated-keymap-lines"
STRICTER_MODES: Final = "stricter-modes"
MORE_MANIFEST_MEMBERS: Final = "more-manifest-members"
OTHER_WARNINGS: Final = "other-warnings"
TOLERANCES: Final = (REPEATED_KEYMAP_LINES, STRICTER_MODES, MORE_MANIFEST_MEMBERS, OTHER_WARNINGS)


def same_file(path: bytes, expected: bytes, found: bytes, strict: Collection[str]) -> bool:
    """Tell whether a file holds what it has to."""
    # [TOLE-1] What counts is each line's first place.
    if path.endswith(b"/KEYMAP.jsonl") and REPEATED_KEYMAP_LINES not in strict:
        return list(dict.fromkeys(found.splitlines(keepends=True))) == expected.splitlines(keepends=True)
    return expected == found


def mode_fits(expected: int, found: int, strict: Collection[str]) -> bool:
    """Tell whether permission bits are those that the spec gives."""
    # [TOLE-2] Fewer bits are as good.
    if STRICTER_MODES not in strict:
        return found & ~expected == 0
    return expected == found


def members_fit(known: Iterable[str], found: Iterable[str], strict: Collection[str]) -> bool:
    """Tell whether the members of MANIFEST.json, or of its outcome, stand in the order of the spec."""
    known, found = list(known), list(found)
    # [TOLE-3] Members of a decoder's own may stand between them.
    if MORE_MANIFEST_MEMBERS not in strict:
        found = [name for name in found if name in known]
    return found == [name for name in known if name in found]


def counted_warnings(found: Mapping[str, Any], known: Collection[str], strict: Collection[str]) -> dict[str, Any]:
    """Return the warnings that are compared."""
    # [TOLE-4] Names that the spec does not know are the decoder's own.
    if OTHER_WARNINGS not in strict:
        return {name: count for name, count in found.items() if name in known}
    return dict(found)
