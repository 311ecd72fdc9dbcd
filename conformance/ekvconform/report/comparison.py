"""Compares two reports of a program: what a change of it has fixed, broken or changed.

class    a case, or a deviation of a case
-------  ------------------------------------------------------------------
fixed    failed before and passes, or showed a deviation and shows it no more
broken   passed before and fails, or shows a deviation that it did not show
changed  fails by something else than before
new      is in the new report alone
gone     is in the old report alone
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ekvconform.judge.known_failures import XPASS
from ekvconform.judge.verdicts import PASS, UNSUPPORTED
from ekvconform.report.records import Report, Row

FIXED: Final = "fixed"
BROKEN: Final = "broken"
CHANGED: Final = "changed"
NEW: Final = "new"
GONE: Final = "gone"
CLASSES: Final = (BROKEN, CHANGED, FIXED, NEW, GONE)
RANK: Final = {PASS: 0, XPASS: 0, UNSUPPORTED: 1}
"""What is not here has failed. A case that cannot run any more is broken, too."""
RANK_OF_FAILURE: Final = 2


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a case."""

    kind: str
    case_id: str
    words: str


def compare_reports(old: Report, new: Report) -> list[Change]:
    """Return the changes between two reports, broken ones first."""
    before = {row["id"]: row for row in old.rows}
    after = {row["id"]: row for row in new.rows}
    found = [Change(GONE, name, row["verdict"]) for name, row in before.items() if name not in after]
    for name, row in after.items():
        if name not in before:
            found.append(Change(NEW, name, _reported(row)))
        else:
            found += _iter_changes(before[name], row)
    return sorted(found, key=lambda each: CLASSES.index(each.kind))


def _iter_changes(before: Row, after: Row) -> Iterator[Change]:
    ranks = [RANK.get(row["verdict"], RANK_OF_FAILURE) for row in (before, after)]
    words = f"{_reported(before)} -> {_reported(after)}"
    if ranks[0] != ranks[1]:
        yield Change(BROKEN if ranks[1] > ranks[0] else FIXED, after["id"], words)
    elif ranks[1] == RANK_OF_FAILURE and _forms(before) != _forms(after):
        yield Change(CHANGED, after["id"], words)
    deviations = [{(each["aspect"], each["form"]) for each in row["deviations"]} for row in (before, after)]
    for aspect, form in sorted(deviations[1] - deviations[0]):
        yield Change(BROKEN, after["id"], f"{aspect}: {form}")
    for aspect, form in sorted(deviations[0] - deviations[1]):
        yield Change(FIXED, after["id"], f"{aspect}: {form}")


def _forms(row: Row) -> set[tuple[str, str]]:
    return {(each["aspect"], each["form"]) for each in row["differences"]}


def _reported(row: Row) -> str:
    forms = "; ".join(dict.fromkeys(each["form"] for each in row["differences"] if each["form"]))
    return f"{row['verdict']} ({forms})" if forms else str(row["verdict"])
