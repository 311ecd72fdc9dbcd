"""The table of pairs of faults: both faults of a pair are there, and all pairs that the rules tell apart are."""

import itertools
import tomllib
from pathlib import Path

import pytest
from ekvconform.cases.families.fault_pairs import CLASSES, load_fault_pairs, offset_of, pieces_with
from ekvformat.decode import decode
from ekvformat.outcomes import Fault

TABLE = Path(__file__).resolve().parents[2] / "fixtures" / "fault-pairs.toml"
FAULTS = tomllib.loads(TABLE.read_text())["faults"]
CASES = {case.id: case for case in load_fault_pairs(TABLE)}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_alone_is_named(name: str) -> None:
    fault = FAULTS[name]
    with pytest.raises(Fault) as refusal:
        decode(b"".join(piece.data for piece in pieces_with(fault)))
    found = (refusal.value.name, refusal.value.clause, refusal.value.offset)
    assert found == (fault["fault"], fault["clause"], offset_of(fault, fault))


@pytest.mark.parametrize(("first", "other"), list(itertools.permutations(FAULTS, 2)))
def test_what_is_tried_follows_the_classes(first: str, other: str) -> None:
    one, two = FAULTS[first]["class"], FAULTS[other]["class"]
    is_tried = f"outc-pair-{first}-before-{other}" in CASES
    if one == two == "header":
        assert is_tried
    elif CLASSES.index(one) > CLASSES.index(two):
        assert not is_tried
    elif CLASSES.index(one) < CLASSES.index(two) and "footer" not in (one, two):
        assert is_tried


def test_a_pair_of_entries_has_both() -> None:
    for first, other in itertools.permutations(FAULTS, 2):
        case = CASES.get(f"outc-pair-{first}-before-{other}")
        if case is not None and "entry" in FAULTS[first] and "entry" in FAULTS[other]:
            alone = b"".join(piece.data for piece in pieces_with(FAULTS[first]))
            assert len(case.scene.snapshot or b"") > len(alone)
    assert len(CASES) > 100
