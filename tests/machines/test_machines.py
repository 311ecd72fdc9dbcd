"""The state machines hold; each finds a wrong decoder, and saves what it finds as a golden case."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import collections_machine
import failures
import known_failures_machine
import producer_machine
import pytest
import readers_machine
import tree_machine
from collections_machine import Collections
from decoders import COMMAND, REFERENCE
from ekvconform.cases.golden_cases import load_case
from ekvconform.judge.verdicts import FAIL, PASS, judge_case
from ekvconform.run.profiles import Profile
from ekvdump.cli.main import main
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from in_process import Runner, runner_of
from known_failures_machine import Listed
from producer_machine import Producer
from readers_machine import Sidecars
from reference_runs import run_reference
from tree_machine import Output

run_command = runner_of(main, "ekvdump")


def test_any_snapshot_of_a_store_is_decoded_as_the_model_says() -> None:
    producer_machine.REACH.run(Producer, settings(producer_machine.CONFIG))


def test_any_collections_are_decoded_as_the_model_says() -> None:
    collections_machine.REACH.run(Collections, settings(collections_machine.CONFIG))


def test_the_output_directory_holds_what_the_model_says() -> None:
    tree_machine.REACH.run(Output, settings(tree_machine.CONFIG))


def test_what_is_written_is_read_also_after_foreign_edits() -> None:
    readers_machine.REACH.run(Sidecars, settings(readers_machine.CONFIG))


def test_the_list_follows_a_program_that_changes() -> None:
    known_failures_machine.REACH.run(Listed, settings(known_failures_machine.CONFIG))


# ---- a wrong decoder is found ----

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


# What is wrong has to show in the files: a case says nothing of counters.
@pytest.mark.parametrize(
    ("machine", "case_id", "place", "other", "profile", "run"),
    [
        (
            Producer,
            "conv-found-by-the-producer",
            "ekvformat.envelope.MAX_EXPIRY_MS",
            2**64,
            REFERENCE,
            run_reference,
        ),
        (
            Output,
            "tree-found-by-the-machine",
            "ekvdump.filesystem.tree_writer.render_checksum_line",
            lambda *_: b"",
            COMMAND,
            run_command,
        ),
    ],
)
def test_what_is_found_is_saved_as_a_case(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    machine: type[RuleBasedStateMachine],
    case_id: str,
    place: str,
    other: object,
    profile: Profile,
    run: Runner,
) -> None:
    monkeypatch.setattr(failures, "DIRECTORY", tmp_path / "found")
    with monkeypatch.context() as wrong:
        wrong.setattr(place, other)
        find(machine)
        case = load_case(tmp_path / "found" / f"{case_id}.toml")
        (tmp_path / "wrong").mkdir()
        judgement = judge_case(case, profile, tmp_path / "wrong", run=run)
        assert judgement.verdict == FAIL or judgement.deviations
    (tmp_path / "right").mkdir()
    judgement = judge_case(case, profile, tmp_path / "right", strict_reasons=True, run=run)
    assert judgement.verdict == PASS, judgement.differences


@pytest.mark.parametrize(
    ("machine", "place", "other"),
    [
        (Sidecars, "readers_machine.decode_manifest", lambda text, *_: json.JSONDecoder().raw_decode(text.decode())[0]),
        (Listed, "known_failures_machine.render_updated", lambda text, *_: text),
    ],
)
def test_what_reads_or_updates_wrongly_is_found(
    monkeypatch: pytest.MonkeyPatch, machine: type[RuleBasedStateMachine], place: str, other: Callable[..., Any]
) -> None:
    monkeypatch.setattr(place, other)
    find(machine)
