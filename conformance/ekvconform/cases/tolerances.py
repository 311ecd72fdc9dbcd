"""Compares where the spec allows variation. Implements spec chapter TOLE.

    name                    clause
    ----------------------  ------
    repeated-keymap-lines   TOLE-1
    stricter-modes          TOLE-2
    more-manifest-members   TOLE-3
    other-warnings          TOLE-4

`strict` is the set of tolerances that a case withdraws.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

REPEATED_KEYMAP_LINES: Final = "repeated-keymap-lines"
STRICTER_MODES: Final = "stricter-modes"
MORE_MANIFEST_MEMBERS: Final = "more-manifest-members"
OTHER_WARNINGS: Final = "other-warnings"
TOLERANCES: Final = (REPEATED_KEYMAP_LINES, STRICTER_MODES, MORE_MANIFEST_MEMBERS, OTHER_WARNINGS)


def same_file(path: bytes, expected: bytes, found: bytes, strict: Collection[str]) -> bool:
    """Return True if a file has the expected content."""
    # [TOLE-1] Only the first occurrence of each line counts.
    if path.endswith(b"/KEYMAP.jsonl") and REPEATED_KEYMAP_LINES not in strict:
        return list(dict.fromkeys(found.splitlines(keepends=True))) == expected.splitlines(keepends=True)
    return expected == found


def mode_fits(expected: int, found: int, strict: Collection[str]) -> bool:
    """Return True if permission bits are acceptable."""
    # [TOLE-2] Stricter modes are acceptable.
    if STRICTER_MODES not in strict:
        return found & ~expected == 0
    return expected == found


def members_fit(known: Iterable[str], found: Iterable[str], strict: Collection[str]) -> bool:
    """Return True if the members of an object of MANIFEST.json are in the order of the spec."""
    known, found = list(known), list(found)
    # [TOLE-3] A decoder may add members of its own between them.
    if MORE_MANIFEST_MEMBERS not in strict:
        found = [name for name in found if name in known]
    return found == [name for name in known if name in found]


def counted_warnings(found: Mapping[str, Any], known: Collection[str], strict: Collection[str]) -> dict[str, Any]:
    """Return the warnings that are compared."""
    # [TOLE-4] A decoder may report warnings that are not in the spec.
    if OTHER_WARNINGS not in strict:
        return {name: count for name, count in found.items() if name in known}
    return dict(found)
