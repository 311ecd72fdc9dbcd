"""Runs the cases as tests of pytest, one item a case.

    pytest -p ekvconform.pytest_plugin --ekvconform-profile FILE

It is loaded only where it is asked for. A case that is UNSUPPORTED is skipped, a known
failure is xfailed, and any other unexpected verdict fails its item, with the lines that
`ekvconform run` prints.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from ekvconform.cases.errors import UsageError
from ekvconform.cases.golden_cases import LEVELS, Case
from ekvconform.cases.loading import load_cases, select_cases
from ekvconform.cases.suite import load_suite
from ekvconform.judge.known_failures import NOTHING_KNOWN, XFAIL, KnownFailures, load_known_failures
from ekvconform.judge.verdicts import FAIL, PASS, UNSUPPORTED, Judgement
from ekvconform.judge.workers import judge_cases
from ekvconform.report.formats import lines_of
from ekvconform.report.records import AS_EXPECTED, make_row
from ekvconform.run.profiles import Profile, load_profile

SUITE: pytest.StashKey["Suite"] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("ekvconform", "golden cases of the ekvdump format")
    group.addoption("--ekvconform-profile", type=Path, metavar="FILE", help="judge the program of this profile")
    group.addoption("--ekvconform-known-failures", type=Path, metavar="FILE", help="case-id  VERDICT  # reason")
    group.addoption(
        "--ekvconform-select", action="append", default=[], metavar="SELECT", help="as `ekvconform run` takes it"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Read profile, known failures and cases."""
    path = config.getoption("ekvconform_profile")
    if path is None:
        raise pytest.UsageError("ekvconform: no program to judge: name its profile with --ekvconform-profile")
    for level in LEVELS:
        config.addinivalue_line("markers", f"{level}: golden cases of rules of this level")
    try:
        load_suite()
        profile = load_profile(path).located()
        known_path = config.getoption("ekvconform_known_failures")
        known = load_known_failures(known_path, [case.id for case in load_cases()]) if known_path else NOTHING_KNOWN
        cases = select_cases(load_cases(), config.getoption("ekvconform_select"))
        if not cases:
            raise UsageError("no case is selected")
    except UsageError as error:
        raise pytest.UsageError(f"ekvconform: {error}") from error
    if known.unmatched:
        names = ", ".join(f"{each.word} (line {each.line})" for each in known.unmatched)
        raise pytest.UsageError(f"ekvconform: {known_path}: lines that match no case: {names}")
    config.stash[SUITE] = Suite(profile, known, cases, ["--profile", str(path)])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Shut down the process that judges."""
    if SUITE in config.stash:
        config.stash[SUITE].close()


class Suite:
    """The cases of a run, and the process that judges them.

    That process is a child subreaper; this one may have children of its own.
    """

    def __init__(self, profile: Profile, known: KnownFailures, cases: list[Case], words: list[str]) -> None:
        self._profile = profile
        self._known = known
        self.cases = cases
        self.words = words
        """Words that name the program, to reproduce a case."""
        self._pool: ProcessPoolExecutor | None = None

    def judge(self, case: Case) -> Judgement:
        """Judge a case."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        judgement = self._pool.submit(judge_one, case, self._profile).result()
        applied = self._known.apply([judgement], is_whole=False)
        (adjusted,) = applied.judgements
        # One test a case: what a case is not about makes it fail here, unless it is listed.
        if applied.unlisted(judgement) and adjusted.verdict in (PASS, XFAIL):
            return replace(adjusted, verdict=FAIL)
        return adjusted

    def close(self) -> None:
        """Shut down the process that judges."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def judge_one(case: Case, profile: Profile) -> Judgement:
    """Judge a case."""
    (judgement,) = judge_cases([case], profile, 1, strict_reasons=False, on_result=lambda _: None)
    return judgement


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add an item for each case, early enough for -k and -m."""
    if SUITE in config.stash:
        items += Cases.from_parent(session, name="ekvconform", nodeid="ekvconform").collect()


class Cases(pytest.Collector):
    """All selected cases."""

    def collect(self) -> "list[CaseItem]":
        """Make an item for each case."""
        return [CaseItem.from_parent(self, name=case.id, case=case) for case in self.config.stash[SUITE].cases]


class NotAsExpectedError(Exception):
    """Raised for an unexpected verdict; its arguments are lines that explain it."""


class CaseItem(pytest.Item):
    """One case."""

    def __init__(self, *, case: Case, **how: object) -> None:
        super().__init__(**how)  # type: ignore[arg-type]
        self._case = case
        self.add_marker(case.level)

    def runtest(self) -> None:
        """Judge it."""
        suite = self.config.stash[SUITE]
        judgement = suite.judge(self._case)
        row = make_row(judgement, suite.words)
        if judgement.verdict == UNSUPPORTED:
            pytest.skip(row["found"])
        if judgement.verdict == XFAIL:
            pytest.xfail("known failure")
        if judgement.verdict not in AS_EXPECTED:
            raise NotAsExpectedError(f"{judgement.verdict} {self._case.title}", *lines_of(row))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        """Render the differences."""
        if isinstance(excinfo.value, NotAsExpectedError):
            return "\n".join(excinfo.value.args)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return the name of the item."""
        return self.path, None, f"{self._case.id} [{' '.join(self._case.clauses)}]"
