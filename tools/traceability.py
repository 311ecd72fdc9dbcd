"""What stands for each clause of the spec: cases, mutants, and code.

The site prints the table (`tools/site/build.py`), and a test fails where a clause with MUST lacks one of them
(`tests/conformance/test_traceability.py`).
"""

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ekvconform.cases.golden_cases import FINDINGS, REFUSED, Case
from ekvexplain.clauses import Clause, load_clauses

ROOT: Final = Path(__file__).resolve().parents[1]
MUTATION: Final = ROOT / "tests" / "mutation"
ROOMS: Final = ("reference", "command", "conformance", "explain")
"""Directories of code that cites clauses."""
CITATION: Final = re.compile(r"\b[A-Z]{4}-[0-9]+\b")


@dataclass(frozen=True, slots=True)
class Trace:
    """A clause and what stands for it."""

    clause: Clause
    cases: tuple[Case, ...]
    mutants: tuple[tuple[str, str], ...]
    """Name and description of each decoder that breaks the clause and is caught."""
    no_case: str
    """Why no case keeps it, or breaks it; empty if there is one."""
    no_mutant: str
    """Why no mutant breaks it; empty if one does."""
    code: tuple[str, ...]
    """Modules that cite it."""

    @property
    def breaking(self) -> list[Case]:
        """The cases in which something breaks the clause, or another that is tried with it."""
        return [case for case in self.cases if is_broken(case)]

    @property
    def keeping(self) -> list[Case]:
        """The cases that are accepted, and those whose repaired twin is."""
        return [case for case in self.cases if not is_broken(case) or case.twin is not None]


def is_broken(case: Case) -> bool:
    """Predicate: is something wrong in the case?"""
    return any(expected.outcome in (REFUSED, FINDINGS) for expected in case.allowed)


def trace_clauses(cases: Iterable[Case]) -> dict[str, Trace]:
    """Return clause = what stands for it, in the order of the spec."""
    cases_of, mutants_of, code_of = defaultdict(list), defaultdict(list), defaultdict(list)
    for case in cases:
        for name in case.clauses:
            cases_of[name].append(case)
    for path in sorted((MUTATION / "by_clause").glob("*.toml")):
        for mutant in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]:
            for name in mutant["breaks"]:
                mutants_of[name].append((mutant["name"], mutant["what"]))
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for name in sorted(set(CITATION.findall(path.read_text(encoding="utf-8")))):
                code_of[name].append(str(path.relative_to(ROOT)))
    no_case = tomllib.loads((ROOT / "fixtures" / "coverage.toml").read_text(encoding="utf-8"))["no_case"]
    no_mutant = tomllib.loads((MUTATION / "without.toml").read_text(encoding="utf-8"))["without"]
    return {
        name: Trace(
            clause,
            tuple(cases_of[name]),
            tuple(mutants_of[name]),
            no_case.get(name, ""),
            no_mutant.get(name, ""),
            tuple(code_of[name]),
        )
        for name, clause in load_clauses().items()
    }
