"""Varied cases mean the same, and tell a decoder from a program that knows the fixtures."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import golden
import pytest
from command_runs import run_command
from decoders import COMMAND, REFERENCE
from ekvconform.cases.carriers import NODE_FILE, carry
from ekvconform.cases.contents import contents_of
from ekvconform.cases.golden_cases import Case
from ekvconform.cases.limits import Limits
from ekvconform.cases.variation import varied_cases, vary
from ekvconform.judge.verdicts import PASS, judge_case
from ekvconform.run.sandbox import Finish, Sandbox, remove_sandbox
from in_process import Runner
from reference_runs import run_reference

SEEDS = ("1", "two", "2026-11-29")
BY_ID = {case.id: case for case in golden.EVERY}
KNOWN = [case for case in golden.IN_MEMORY if case.chapter in ("rstr", "rhll", "rttl", "kmap", "salv", "visi")]
"""Cases whose answers a program has written down."""


COUNTED = [case for case in golden.CASES if case.chapter in ("fate", "outc", "mani")]
"""Cases that look into MANIFEST.json."""


@pytest.mark.parametrize("seed", SEEDS)
def test_the_reference_passes_whatever_the_seed(seed: str) -> None:
    for case in varied_cases(golden.IN_MEMORY, seed):
        golden.check_in_memory(case)
        golden.check_in_memory(carry(case, NODE_FILE))


@pytest.mark.parametrize("case", COUNTED, ids=lambda case: case.id)
def test_a_varied_case_passes(case: Case, tmp_path: Path) -> None:
    golden.check_case(vary(case, "1"), tmp_path)


@pytest.mark.parametrize("case", golden.READING, ids=lambda case: case.id)
def test_a_varied_dump_has_the_same_findings(case: Case, tmp_path: Path) -> None:
    golden.check_case(vary(case, "1"), tmp_path, COMMAND, run_command)


def test_nearly_every_case_varies_and_no_size_does() -> None:
    varied = varied_cases(golden.EVERY, "1")
    assert sum(bool(case.seed) for case in varied) > 0.9 * len(varied)
    for case, other in zip(golden.EVERY, varied, strict=True):
        assert (case.scene == other.scene) == (not other.seed)
        assert len(case.scene.snapshot or b"") == len(other.scene.snapshot or b"")
    assert varied_cases(golden.EVERY, "1") == varied
    assert varied_cases(golden.EVERY, "") == golden.EVERY


def test_each_thing_that_may_vary_does() -> None:
    case = carry(vary(BY_ID["rttl-find-08-scan-index-row"], "1"), NODE_FILE)
    both = (carry(BY_ID[case.id], NODE_FILE), case)
    old, new = (contents_of(each.scene.snapshot or b"")[1] for each in both)
    assert old.user_key != new.user_key
    assert old.commit_ts != new.commit_ts
    assert old.body != new.body


class _Canned:
    """A program that decodes nothing: it knows the fixtures by their hashes, and copies what was right for them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._finishes: dict[str, Finish] = {}

    def learn(self, command: Sequence[str], box: Sandbox, limits: Limits, stop: int | None) -> Finish:
        """Let the reference answer, and write the answer down."""
        finish = run_reference(command, box, limits, stop)
        name = self._name(command)
        self._finishes[name] = finish
        if box.out.exists():
            shutil.copytree(box.out, self._directory / name, dirs_exist_ok=True)
        return finish

    def answer(self, command: Sequence[str], box: Sandbox, limits: Limits, stop: int | None) -> Finish:
        """Answer what is known; for anything else, say that the snapshot is damaged."""
        name = self._name(command)
        if name not in self._finishes:
            return Finish(4, None, False, None, "", "offset 0: no [footer-mismatch, FILE-18]", 0.0, 0)
        if (self._directory / name).exists():
            shutil.copytree(self._directory / name, box.out)
        return self._finishes[name]

    def _name(self, command: Sequence[str]) -> str:
        snapshot = Path(command[-2])
        options = " ".join(word for word in command if word.startswith("--"))
        return hashlib.sha256(options.encode() + snapshot.read_bytes()).hexdigest()


def test_a_program_that_knows_the_fixtures_passes_only_what_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "known").mkdir()
    program = _Canned(tmp_path / "known")

    def verdicts(cases: Sequence[Case], run: Runner) -> dict[str, str]:
        found = {}
        for case in cases:
            directory = tmp_path / case.id
            directory.mkdir()
            found[case.id] = judge_case(case, REFERENCE, directory, strict_reasons=True, run=run).verdict
            remove_sandbox(directory)
        return found

    assert set(verdicts(KNOWN, program.learn).values()) == {PASS}
    assert set(verdicts(KNOWN, program.answer).values()) == {PASS}
    varied = varied_cases(KNOWN, "1")
    same = {case.id for case in varied if not case.seed}
    assert len(same) < 0.1 * len(KNOWN)
    found = verdicts(varied, program.answer)
    assert {case_id for case_id, verdict in found.items() if verdict == PASS} == same
