"""The reference passes the golden cases, in this process: what changes its code in memory is judged by them too.

`test_in_memory` asks what comes of a snapshot, without a file system, and `test_golden_case`
what `ekvconform` does.
"""

import contextlib
import io
import os
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from ekvconform.cases import COMPLETE, DECODE, PARTIAL, REFUSED, Case, Expected, load_cases, select_cases
from ekvconform.limits import Limits
from ekvconform.profiles import REFERENCE
from ekvconform.sandbox import UMASK, Finish, Sandbox, environment, remove_sandbox
from ekvconform.verdicts import PASS, UNSUPPORTED, judge_case
from ekvdump.cli import main
from ekvdump.outcomes import Fault, Outcome
from ekvdump.outputs import Options
from harness import decode_in_memory, umask

# They take seconds each, and reach nothing that others do not.
SLOW = {"tree-512-folders-deep", "tree-513-folders-deep", "conv-two-thousand-keys"}
# Who is at work meanwhile, and who may not write, needs a process of its own: `ekvconform run`.
CASES = [
    case
    for case in select_cases(load_cases(), [])
    if case.scene.during is None and not case.scene.is_for_the_unprivileged and case.id not in SLOW
]
# What says something of a snapshot, and nothing of where it lies or is written to.
OF_MEMORY = {"file", "visi", "keys", "rstr", "rhll", "rttl", "segm", "kmap", "salv", "conv"}
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


@contextlib.contextmanager
def variables(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def run_here(command: Sequence[str], box: Sandbox, limits: Limits, stop: int | None) -> Finish:
    """What `run_program` does, without a process."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    words = command[command.index("ekvdump") + 1 :]
    with (
        contextlib.chdir(box.root / "work"),
        variables(environment(box)),
        umask(UMASK),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            status = main(words)
        except Exception:
            traceback.print_exc()
            status = 1
    told = []
    for stream in (out, err):
        stream.flush()
        told.append(stream.buffer.getvalue().decode(errors="backslashreplace"))
    return Finish(status, None, False, None, told[0], told[1], 0.0, 0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_golden_case(case: Case, tmp_path: Path) -> None:
    judgement = judge_case(case, REFERENCE, tmp_path, strict_reasons=True, run=run_here)
    assert judgement.verdict in (PASS, UNSUPPORTED), judgement.differences
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
