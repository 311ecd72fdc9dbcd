"""Each state machine finds a wrong decoder, and what it finds is a golden case that tells it from a right one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import failures
import pytest
from decoders import COMMAND
from ekvconform.cases.golden_cases import load_case
from ekvconform.judge.verdicts import FAIL, PASS, judge_case
from harness import run_here
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from test_known_failures_machine import Listed
from test_producer_machine import Producer
from test_readers_machine import Sidecars
from test_tree_machine import Output

# No shrinking: that it finds something is what counts here.
SEARCH = settings(
    max_examples=200,
    stateful_step_count=20,
    derandomize=True,
    deadline=None,
    phases=[Phase.generate],
    print_blob=False,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)


def find(machine: type[RuleBasedStateMachine]) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run_state_machine_as_test(machine, settings=SEARCH)


@pytest.mark.parametrize(
    ("machine", "case_id", "place", "other"),
    [
        (Producer, "conv-found-by-the-producer", "ekvdump.engine.versions.decode_state", lambda *_: "exists"),
        (
            Output,
            "tree-found-by-the-machine",
            "ekvdump.filesystem.tree_writer.TreeWriter._check_contents",
            lambda *_: [],
        ),
    ],
)
def test_what_is_found_is_saved_as_a_case(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    machine: type[RuleBasedStateMachine],
    case_id: str,
    place: str,
    other: Callable[..., Any],
) -> None:
    monkeypatch.setattr(failures, "FOLDER", tmp_path / "found")
    with monkeypatch.context() as wrong:
        wrong.setattr(place, other)
        find(machine)
        case = load_case(tmp_path / "found" / f"{case_id}.toml")
        (tmp_path / "wrong").mkdir()
        assert judge_case(case, COMMAND, tmp_path / "wrong", run=run_here).verdict == FAIL
    (tmp_path / "right").mkdir()
    judgement = judge_case(case, COMMAND, tmp_path / "right", strict_reasons=True, run=run_here)
    assert judgement.verdict == PASS, judgement.differences


@pytest.mark.parametrize(
    ("machine", "place", "other"),
    [
        (Sidecars, "test_readers_machine.decode_manifest", json.loads),
        (Listed, "test_known_failures_machine.render_updated", lambda text, *_: text),
    ],
)
def test_what_reads_or_updates_wrongly_is_found(
    monkeypatch: pytest.MonkeyPatch, machine: type[RuleBasedStateMachine], place: str, other: Callable[..., Any]
) -> None:
    monkeypatch.setattr(place, other)
    find(machine)
