"""Which golden cases run in this process, and how the reference is judged by them."""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Final

from decoders import COMMAND, REFERENCE
from ekvconform.cases.golden_cases import COMPLETE, DECODE, PARTIAL, REFUSED, Case, Expected, Scene
from ekvconform.cases.loading import load_cases, select_cases
from ekvconform.judge.verdicts import PASS, UNSUPPORTED, Judgement, command_of, judge_case
from ekvconform.run.profiles import Profile
from ekvconform.run.sandbox import make_sandbox, remove_sandbox
from ekvformat.decode import Dump, Options, decode
from ekvformat.outcomes import Fault
from in_process import Runner
from reference_runs import all_files, reasons_of, run_reference

SLOW: Final = {"into-512-directories-deep", "into-513-directories-deep", "conv-two-thousand-keys"}
"""Cases that take seconds each, and reach nothing that others do not."""
OF_MEMORY: Final = {"file", "visi", "keys", "rstr", "rhll", "rttl", "segm", "kmap", "salv", "conv"}
"""Chapters whose cases say something of a snapshot, and nothing of the path it has or the directory written to."""


def runs_in_process(scene: Scene) -> bool:
    """Return True for a scene without concurrent tampering, without dropped privileges and without a small disk."""
    return scene.during is None and not scene.is_for_the_unprivileged and scene.disk_bytes is None


def is_in_memory(case: Case) -> bool:
    """Return True for a case that `decode` alone can be judged by."""
    scene = case.scene
    return (
        case.chapter in OF_MEMORY
        and scene.snapshot is not None
        and scene.snapshot_name == b"snapshot.fsm"
        and not scene.planted
        and scene.options.keys() <= {"only", "salvage"}
    )


EVERY: Final = select_cases(load_cases(), [])
"""All cases but the big ones."""
IN_PROCESS: Final = [case for case in EVERY if runs_in_process(case.scene) and case.id not in SLOW]
CASES: Final = [case for case in IN_PROCESS if case.scene.verb == DECODE]
"""Those that decode."""
READING: Final = [case for case in IN_PROCESS if case.scene.verb != DECODE]
"""Those that read a dump or look into a snapshot; only the command does that."""
ELSEWHERE: Final = [case for case in EVERY if case not in IN_PROCESS]
"""Those that need a process of their own, or take long: `ekvconform run`."""
TWINS: Final = [
    replace(case, scene=case.twin)
    for case in EVERY
    if case.twin is not None and runs_in_process(case.twin) and case.id not in SLOW
]
"""Repaired twins, of any verb."""
AT_PLACES: Final = [case for case in CASES if case.id.startswith("safe-at-")]
"""Those with something in the way at one place of the tree."""
IN_MEMORY: Final = [case for case in CASES if is_in_memory(case)]
_VERB: Final = COMMAND.command.index("decode") + 1
BY_PATH: Final = replace(
    COMMAND, command=(*COMMAND.command[:_VERB], "--by-path", *COMMAND.command[_VERB:]), warnings=()
)
"""The command without directory handles. Each of its runs warns of unguarded writes, which no case expects."""


def check_case(case: Case, directory: Path, profile: Profile = REFERENCE, run: Runner = run_reference) -> None:
    """Fail unless a decoder, run in this process in an empty directory, passes a case for the right reason."""
    require_pass(judge_case(case, profile, directory, strict_reasons=True, run=run))
    remove_sandbox(directory)


def require_pass(judgement: Judgement) -> None:
    """Fail unless the verdict is a pass."""
    # Not every machine lets its users make a device node; then these cases do not run.
    allowed = (PASS, UNSUPPORTED) if judgement.case.id.endswith("-device") else (PASS,)
    assert judgement.verdict in allowed, judgement.differences


def check_twin(case: Case, directory: Path, profile: Profile = REFERENCE, run: Runner = run_reference) -> None:
    """Fail unless a decoder accepts the scene of a repaired twin."""
    box = make_sandbox(directory, case.scene)
    command = command_of(profile, case.scene, box, box.arrange(case.scene))
    finish = run(command, box, profile.limits, None)
    assert finish.exit_status in ((0, 3) if case.scene.verb == DECODE else (0,)), finish.stderr
    remove_sandbox(directory)


def check_in_memory(case: Case) -> None:
    """Fail unless `decode` answers as a case expects."""
    scene = case.scene
    only = scene.options.get("only")
    types = frozenset(only.split(",")) if only else None
    part = (os.fsencode(scene.options[name]) if name in scene.options else None for name in ("key", "prefix"))
    found: Fault | Dump
    try:
        options = Options(scene.database, types, "salvage" in scene.options, *part)
        found = decode(scene.snapshot or b"", "", options)
    except Fault as fault:
        found = fault
    assert any(is_expected(found, expected) for expected in case.allowed), found


def is_expected(found: Fault | Dump, expected: Expected) -> bool:
    """Return True if an answer is what a case expects."""
    if isinstance(found, Fault):
        assert found.detail
        reported = (found.name, found.clause, found.offset if expected.offset is not None else None)
        return expected.outcome == REFUSED and reported == (expected.fault, expected.clause, expected.offset)
    warnings: Counter[str] = Counter()
    for warning in found.summary.warnings:
        warnings[warning.name] += warning.count
    return (
        expected.outcome == (PARTIAL if reasons_of(found.summary) else COMPLETE)
        and all_files(found) == {os.fsdecode(path): content for path, content in expected.tree.items()}
        and warnings == expected.warnings
    )
