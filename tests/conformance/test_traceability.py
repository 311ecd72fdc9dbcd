"""The table of traceability has no hole: each rule has cases, mutants and code, or a reason why not."""

import tomllib

from ekvconform.cases.loading import load_cases
from traceability import ROOT, trace_clauses

TRACES = trace_clauses(load_cases())
RULES = {name: trace for name, trace in TRACES.items() if trace.clause.level in ("MUST", "SHOULD", "MAY")}
MUSTS = {name: trace for name, trace in RULES.items() if trace.clause.level == "MUST"}


def test_the_table_has_every_rule() -> None:
    assert len(TRACES) > 270
    assert len(MUSTS) > 250


def test_every_rule_is_kept_by_a_case_and_broken_by_one_where_it_refuses() -> None:
    without = {
        name for name, trace in RULES.items() if not trace.keeping or (trace.clause.faults and not trace.breaking)
    }
    assert without == {name for name, trace in TRACES.items() if trace.no_case}
    assert without == set(tomllib.loads((ROOT / "fixtures" / "coverage.toml").read_text())["no_case"])


def test_every_must_clause_is_broken_by_a_mutant() -> None:
    assert {name for name, trace in MUSTS.items() if not trace.mutants} == {
        name for name, trace in TRACES.items() if trace.no_mutant
    }


def test_every_must_clause_is_cited_by_code() -> None:
    assert [name for name, trace in MUSTS.items() if not trace.code] == []
