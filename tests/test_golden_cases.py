"""The reference passes the golden cases, in this process: what changes its code in memory is judged by them too.

`test_in_memory` asks what comes of a snapshot, without a file system, and `test_golden_case`
what `ekvconform` does.
"""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from ekvconform.cases import COMPLETE, DECODE, PARTIAL, REFUSED, Case, Expected, Scene, load_cases, select_cases
from ekvconform.profiles import REFERENCE
from ekvconform.sandbox import make_sandbox, remove_sandbox
from ekvconform.verdicts import PASS, UNSUPPORTED, Judgement, command_of, judge_case
from ekvdump.engine.outcome import Outcome
from ekvformat.decode import Options
from ekvformat.outcomes import Fault
from harness import decode_in_memory, run_here

# They take seconds each, and reach nothing that others do not.
SLOW = {"tree-512-folders-deep", "tree-513-folders-deep", "conv-two-thousand-keys"}


# Who is at work meanwhile, and who may not write, needs a process of its own: `ekvconform run`.
def is_for_here(scene: Scene) -> bool:
    return scene.during is None and not scene.is_for_the_unprivileged


EVERY = select_cases(load_cases(), [])
CASES = [case for case in EVERY if is_for_here(case.scene) and case.id not in SLOW]
ELSEWHERE = [case for case in EVERY if case not in CASES]
# What says something of a snapshot, and nothing of where it lies or is written to.
OF_MEMORY = {"file", "visi", "keys", "rstr", "rhll", "rttl", "segm", "kmap", "salv", "conv"}
TWINS = [
    replace(case, scene=case.twin)
    for case in EVERY
    if case.twin is not None and is_for_here(case.twin) and case.id not in SLOW
]
AT_PLACES = [case for case in CASES if case.id.startswith("tree-at-")]
# It says in every run that its writes are unguarded, which no case expects.
VERB = REFERENCE.command.index("decode") + 1
BY_PATH = replace(REFERENCE, command=(*REFERENCE.command[:VERB], "--by-path", *REFERENCE.command[VERB:]), warnings=())
IN_MEMORY = [
    case
    for case in CASES
    if case.chapter in OF_MEMORY
    and case.scene.verb == DECODE
    and case.scene.snapshot is not None
    and case.scene.snapshot_name == b"snapshot.fsm"
    and not case.scene.planted
    and case.scene.options.keys() <= {"only", "salvage"}
]


def require_pass(judgement: Judgement) -> None:
    # Not everybody may make a device node; then these cases do not run.
    allowed = (PASS, UNSUPPORTED) if judgement.case.id.endswith("-device") else (PASS,)
    assert judgement.verdict in allowed, judgement.differences


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_golden_case(case: Case, tmp_path: Path) -> None:
    judgement = judge_case(case, REFERENCE, tmp_path, strict_reasons=True, run=run_here)
    require_pass(judgement)
    remove_sandbox(tmp_path)


@pytest.mark.parametrize("case", AT_PLACES, ids=lambda case: case.id)
def test_by_path(case: Case, tmp_path: Path) -> None:
    """Without handles too, what lies in the tree before the run leads it nowhere; its races are TREE-38's."""
    judgement = judge_case(case, BY_PATH, tmp_path, strict_reasons=True, run=run_here)
    require_pass(judgement)
    remove_sandbox(tmp_path)


@pytest.mark.parametrize("case", TWINS, ids=lambda case: case.id)
def test_a_case_has_one_defect_for_its_repaired_twin_is_accepted(case: Case, tmp_path: Path) -> None:
    box = make_sandbox(tmp_path, case.scene)
    command = command_of(REFERENCE, case.scene, box, box.arrange(case.scene))
    finish = run_here(command, box, REFERENCE.limits, None)
    assert finish.exit_status in ((0, 3) if case.scene.verb == DECODE else (0,)), finish.stderr
    remove_sandbox(tmp_path)


@pytest.mark.parametrize("case", IN_MEMORY, ids=lambda case: case.id)
def test_in_memory(case: Case) -> None:
    scene = case.scene
    only = scene.options.get("only")
    types = frozenset(only.split(",")) if only else None
    options = Options(scene.database, only=types, salvage="salvage" in scene.options)
    found: Fault | tuple[Outcome, dict[str, bytes]]
    try:
        found = decode_in_memory(scene.snapshot or b"", options)
    except Fault as fault:
        found = fault
    assert any(is_expected(found, expected) for expected in case.allowed), found


def is_expected(found: Fault | tuple[Outcome, dict[str, bytes]], expected: Expected) -> bool:
    if isinstance(found, Fault):
        assert found.detail
        told = (found.name, found.clause, found.offset if expected.offset is not None else None)
        return expected.outcome == REFUSED and told == (expected.fault, expected.clause, expected.offset)
    outcome, files = found
    warnings: Counter[str] = Counter()
    for warning in outcome.warnings:
        warnings[warning.name] += warning.count
    return (
        expected.outcome == (COMPLETE if outcome.complete else PARTIAL)
        and files == {os.fsdecode(path): data for path, data in expected.tree.items()}
        and warnings == expected.warnings
    )


def test_there_are_many_of_each() -> None:
    assert len(CASES) > 700
    assert len(TWINS) > 480
    assert len(AT_PLACES) > 190
    assert 30 < len(ELSEWHERE) < 100
    assert len(IN_MEMORY) > 200
