"""Loads and selects golden cases: those of `fixtures/cases/`, and those that are made from tables."""

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Final

from ekvconform.cases.data_files import FATE_PATH, FIXTURES
from ekvconform.cases.families.fates import fate_cases
from ekvconform.cases.families.fault_pairs import FAULT_PAIRS_NAME, load_fault_pairs
from ekvconform.cases.families.places import PLACES_NAME, load_places
from ekvconform.cases.golden_cases import BrokenCaseError, Case, load_case

BIG: Final = "big"
"""Selects all big cases."""
CASES_NAME: Final = "cases"
"""Holds a directory for each chapter."""
SMOKE: Final = (
    "file-no-entry", "file-header-v1", "file-header-v2", "file-bare-without-footer", "file-empty-file",
    "file-bad-magic", "file-footer-mismatch", "file-cut-in-value", "file-out-of-order", "visi-newest-counts",
    "visi-deleted", "visi-encrypted", "visi-reserved-bit-3", "visi-meta-applied-index", "keys-unknown", "rstr-envelope",
    "envl-expiry-0", "envl-legacy", "rstr-bare", "envl-envelope-without-flags", "rhll-envelope", "rttl-row-of-7-bytes",
    "segm-escapes", "segm-243-fallback-form", "tree-database-index",
)  # fmt: skip
"""Cases to try first: some of each chapter, and a refusal of each class."""


LOADERS: Final[dict[str, Callable[[Path], list[Case]]]] = {
    PLACES_NAME: load_places, FAULT_PAIRS_NAME: load_fault_pairs, FATE_PATH.name: lambda _: fate_cases(),
}  # fmt: skip
"""Name of a table = what makes cases of it."""


def case_paths(directory: Path = FIXTURES) -> list[Path]:
    """Return the paths of all fixtures, by chapter and id. Raises `BrokenCaseError` if there are none."""
    paths = sorted((directory / CASES_NAME).glob("*/*.toml"))
    if not paths:
        raise BrokenCaseError(f"{directory}: no cases")
    return paths


def table_paths(directory: Path = FIXTURES) -> list[Path]:
    """Return the paths of the tables that further cases are made from."""
    tables = [directory / PLACES_NAME, directory / FAULT_PAIRS_NAME]
    return [path for path in tables if path.is_file()] + ([FATE_PATH] if directory == FIXTURES else [])


@cache
def load_cases(directory: Path = FIXTURES) -> tuple[Case, ...]:
    """Read all fixtures, once, by chapter and id. Raises `BrokenCaseError`."""
    cases = [load_case(path) for path in case_paths(directory)]
    for table in table_paths(directory):
        cases += LOADERS[table.name](table)
    cases.sort(key=lambda case: (case.chapter, case.id))
    seen: dict[str, str] = {}
    for case in cases:
        if case.id in seen:
            raise BrokenCaseError(f"{case.id} is in {seen[case.id]} and in {case.chapter}")
        seen[case.id] = case.chapter
    return tuple(cases)


def select_cases(cases: Iterable[Case], words: Iterable[str]) -> list[Case]:
    """Return the cases that match any word: an id glob, a clause, a chapter, a level or a family; all without words.

    A big case is matched only by its full id, or by "big".
    """
    wanted = list(words)
    return [case for case in cases if (not wanted and not case.is_big) or any(_names(word, case) for word in wanted)]


def _names(word: str, case: Case) -> bool:
    if case.is_big:
        return word in (BIG, case.id)
    return (
        fnmatchcase(case.id, word)
        or word.upper() in case.clauses
        or word.lower() in (case.chapter, case.level, case.family)
    )


def iter_smoke(cases: Iterable[Case]) -> Iterator[Case]:
    """Yield the cases of `SMOKE`."""
    return (case for case in cases if case.id in SMOKE)
