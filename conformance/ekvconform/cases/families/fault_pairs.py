"""Makes golden cases of two faults in one snapshot from their table (`fixtures/fault-pairs.toml`)."""

import itertools
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from ekvconform.cases.golden_cases import REFUSED, UNSEALED, UNTOUCHED, BrokenCaseError, Case, Expected, Scene
from ekvconform.cases.snapshots import (
    BadDescriptionError,
    Piece,
    decode_bytes,
    describe_snapshot,
    make_entry,
    render_hex,
)
from ekvconform.cases.writer import encoded_entry, footer

FAULT_PAIRS_NAME: Final = "fault-pairs.toml"
CLASSES: Final = ("structure", "footer", "header", "value")
"""In the order in which they are judged. [OUTC-3]"""
RULE_WITHIN: Final = {"structure": "OUTC-4", "header": "OUTC-4", "value": "OUTC-5"}
"""Class = the clause that says which of its faults is named."""
START: Final = 32
"""Size of the header and of the start of the payload part, in bytes."""
SOUND: Final = {"key": "c", "ts": 1, "body": "sound"}
"""An entry behind those that are at fault."""

Fault = dict[str, Any]


def load_fault_pairs(path: Path) -> list[Case]:
    """Read the table, and make a case of each pair. Raises `BrokenCaseError`."""
    try:
        faults = tomllib.loads(path.read_text(encoding="utf-8"))["faults"]
        return [_case(first, faults[first], other, faults[other]) for first, other in _pairs(faults)]
    except (KeyError, TypeError, ValueError, AttributeError, BadDescriptionError) as error:
        raise BrokenCaseError(f"{path}: {type(error).__name__}: {error}") from error


def _pairs(faults: dict[str, Fault]) -> Iterator[tuple[str, str]]:
    """Yield the names of each pair, first the one that is named."""
    for first, other in itertools.permutations(faults, 2):
        one, two = faults[first], faults[other]
        rank = CLASSES.index(one["class"]) - CLASSES.index(two["class"])
        if rank:
            # Only an entry out of its place leaves room for a footer.
            has_footer = "wrong-footer" not in (first, other) or "out-of-order" in (first, other) or "entry" in two
            if rank < 0 and has_footer:
                yield first, other
        elif one["class"] == "structure":
            if first == "out-of-order":
                yield first, other
        elif one.get("section", 0) <= two.get("section", 0):
            yield first, other


def _case(first: str, one: Fault, other: str, two: Fault) -> Case:
    pieces = pieces_with(one, two)
    rule = "OUTC-3" if one["class"] != two["class"] else RULE_WITHIN[one["class"]]
    offset = offset_of(one, one, two)
    left = UNSEALED if one["class"] == "value" else UNTOUCHED
    return Case(
        id=f"outc-pair-{first}-before-{other}",
        chapter="outc",
        title=f"Of two faults, {first.replace('-', ' ')} is named, and not {other.replace('-', ' ')}",
        clauses=(rule, one["clause"]),
        level="must",
        scene=Scene(snapshot=b"".join(piece.data for piece in pieces)),
        allowed=(Expected(REFUSED, one["fault"], one["clause"], offset=offset, out=left),),
        twin=Scene(snapshot=b"".join(piece.data for piece in describe_snapshot({"entries": [SOUND]}))),
        annotated=render_hex(pieces),
        family="fault-pairs",
    )


def _entry(fault: Fault, letter: str) -> dict[str, Any]:
    """Return the description of the entry that is at fault."""
    words = dict(fault["entry"])
    words |= {name: value.replace("{k}", letter) for name, value in words.items() if isinstance(value, str)}
    return words if "raw_key" in words else {"ts": 1, **words}


def _entries(faults: Sequence[Fault]) -> list[dict[str, Any]]:
    """Return the descriptions of all entries that are at fault, the first one first."""
    return [_entry(fault, letter) for letter, fault in zip("ab", faults, strict=False) if "entry" in fault]


def pieces_with(*faults: Fault) -> list[Piece]:
    """Return a snapshot that has one or two faults: all entries, then what is wrong at its end."""
    tails = [fault["tail"] for fault in faults if "tail" in fault]
    footers = [fault["footer"] for fault in faults if "footer" in fault]
    pieces = describe_snapshot({"entries": [*_entries(faults), SOUND], "footer": False})
    pieces += [Piece(decode_bytes(tail), "at fault") for tail in tails if tail]
    if not footers:
        data = b"".join(piece.data for piece in pieces)
        return [*pieces, Piece(footer(data), "footer that fits")]
    return pieces if footers[0] is False else [*pieces, Piece(decode_bytes(footers[0]), "in the place of a footer")]


def offset_of(one: Fault, *faults: Fault) -> int:
    """Return where the first of some faults is in the snapshot that has them, in bytes."""
    place: str = one["at"][0]
    behind: int = one["at"][1]
    if place == "footer":
        return sum(len(piece.data) for piece in pieces_with(*faults)) - 4
    wanted = make_entry(_entry(one, "a")) if "entry" in one else None
    offset = START
    for entry in sorted(make_entry(each) for each in [*_entries(faults), SOUND]):
        if entry == wanted:
            break
        offset += len(encoded_entry(entry))
    if wanted is None:
        return offset + behind
    key = wanted[0]
    starts = {"key": 8, "value": 16 + len(key), "body": 16 + len(key) + 9}
    return offset + starts[place] + behind
