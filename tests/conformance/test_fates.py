"""The fate table: each of its lines has cases, and a slip in any of them changes what a case expects."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from ekvconform.cases.data_files import FATE_TABLE
from ekvconform.cases.families import fates
from ekvconform.cases.families.fates import CHOICES, SITUATIONS, fate_cases, refusing_lines

CASES = {case.id: case for case in fate_cases()}
LINES = [(kind, number) for kind, lines in FATE_TABLE.items() for number in range(len(lines))]


def slips(line: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the line with one of its results changed."""
    others = {
        "counter": "excluded" if line.get("counter") != "excluded" else "written",
        "refused": "ENVL-5" if line.get("refused") != "ENVL-5" else "ENVL-4",
        "blob": "elsewhere", "sidecar": "elsewhere.jsonl", "keymap": False,
        "line": "ENVL-5" if line.get("line") != "ENVL-5" else "RTTL-1",
    }  # fmt: skip
    for name, other in others.items():
        if name in line:
            yield line | {name: other}
    if "expiry" in line:
        yield {name: value for name, value in line.items() if name != "expiry"}


@pytest.mark.parametrize(("kind", "number"), LINES)
def test_a_slip_in_any_result_changes_what_a_case_expects(
    kind: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = FATE_TABLE[kind][number]
    found = list(slips(line))
    assert found
    for slip in found:
        table = copy.deepcopy(FATE_TABLE)
        table[kind][number] = slip
        monkeypatch.setattr(fates, "FATE_TABLE", table)
        assert {case.id: case.allowed for case in fate_cases()} != {name: case.allowed for name, case in CASES.items()}


def test_every_situation_is_tried_with_every_choice() -> None:
    assert len(SITUATIONS) == 6 * 2 * 6 * 3 - 1 + 3 * 2 * 2 * 3 * 6
    assert len(CHOICES) == len(fates.WANTED) * 2
    for choice in CHOICES:
        snapshot = CASES[f"fate-{choice.name}"].scene.snapshot or b""
        for situation in SITUATIONS:
            records = (key for kind in situation.kinds for key, _ in situation.records(kind, situation.name.encode()))
            is_there = any((len(key) + 8).to_bytes(8, "little") + key in snapshot for key in records)
            assert is_there != bool(refusing_lines(situation, choice)), (choice, situation)


def test_no_two_lines_of_a_table_hold_the_same_conditions() -> None:
    for lines in FATE_TABLE.values():
        conditions = [[(name, line.get(name)) for name in fates.CONDITIONS] for line in lines]
        assert all(conditions.count(each) == 1 for each in conditions)
