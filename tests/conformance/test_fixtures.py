"""The cases stand for the whole spec: every clause, every constant, every finding and every divergence."""

import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ekvconform.campaigns.profile_inference import PROBES
from ekvconform.cases.golden_cases import FINDINGS, REFUSED, BrokenCaseError, Case
from ekvconform.cases.loading import SMOKE, load_cases
from ekvconform.cases.suite import faults_of_index, load_index, load_suite, render_updated_index
from ekvexplain.clauses import load_clauses

from spec import DIVERGENCES

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"
CASES = {case.id: case for case in load_cases()}
CLAUSES = load_clauses()
COVERAGE = tomllib.loads((FIXTURES / "coverage.toml").read_text())
CHAPTERS_OF_CASES = {
    "conv", "outc", "file", "visi", "keys", "type", "envl", "rstr", "rhll", "coll", "rhas", "rlis", "rset", "rzse",
    "rstm", "rttl", "comp", "fate", "segm", "kmap", "tree", "mani", "sums", "safe", "into", "salv", "read", "veri",
    "tole",
}  # fmt: skip


def has_defect(case: Case) -> bool:
    return any(expected.outcome in (REFUSED, FINDINGS) for expected in case.allowed)


def test_there_are_cases_of_every_chapter() -> None:
    assert len(CASES) >= 1300
    assert {case.chapter for case in CASES.values()} == CHAPTERS_OF_CASES
    assert {clause[:4].lower() for clause in CLAUSES} == CHAPTERS_OF_CASES


def test_every_case_names_clauses_that_exist_and_its_own_chapter_among_them() -> None:
    for case in CASES.values():
        assert set(case.clauses) <= set(CLAUSES), case.id
        assert case.id.startswith(f"{case.chapter}-")
        assert case.chapter.upper() in {clause.split("-")[0] for clause in case.clauses}, case.id


def test_a_refusal_is_for_the_fault_that_its_clause_has() -> None:
    for case in CASES.values():
        for expected in case.allowed:
            # A clause that gives no fault of its own sends the reader to the one that does.
            if expected.outcome == REFUSED and (faults := CLAUSES[expected.clause].faults):
                assert expected.fault in faults, case.id


PACKAGES = ("reference/ekvformat", "command/ekvdump/engine", "command/ekvdump/filesystem", "command/ekvdump/verify")
CONSTANT = re.compile(r"^([A-Z][A-Z0-9_]*)(?:: Final\b|, )", re.MULTILINE)


def numbers_and_bytes_at_the_top_of(package: Path) -> dict[str, Any]:
    """Return "module.constant" = value."""
    found = {}
    for path in sorted(package.glob("[a-z]*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts[1:])
        for constant in CONSTANT.findall(path.read_text()):
            value = getattr(importlib.import_module(module), constant)
            if isinstance(value, int | bytes) and not isinstance(value, bool):
                found[f"{module}.{constant}"] = value
    return found


def format_constants() -> set[str]:
    """Return the constants of the reference, and those that only the command has."""
    reference, *command = (numbers_and_bytes_at_the_top_of(ROOT / package) for package in PACKAGES)
    names = {name.rpartition(".")[2] for name in reference}
    only_command = {name for found in command for name in found if name.rpartition(".")[2] not in names}
    return set(reference) | only_command


def test_every_constant_has_cases_on_both_sides() -> None:
    constants = format_constants()
    assert len(constants) > 50
    table = COVERAGE["constants"]
    # One constant is a text.
    assert set(table) - {"ekvformat.segments.BINARY_PREFIX"} | set(COVERAGE["no_constants"]) == constants
    for name, sides in table.items():
        one, other = map(set, sides)
        assert one, name
        assert other, name
        assert one | other <= set(CASES), name
        assert not one & other, name


def test_every_finding_has_a_case_named_after_it_or_a_reason() -> None:
    findings = COVERAGE["findings"]
    assert list(map(int, findings)) == list(range(1, 24))
    named: set[str] = set()
    for number, finding in findings.items():
        assert finding["what"]
        assert ("cases" in finding) != ("why_not" in finding)
        for case_id in finding.get("cases", []):
            assert f"-find-{int(number):02d}-" in case_id
            assert case_id in CASES
            named.add(case_id)
    assert named == {case_id for case_id in CASES if "-find-" in case_id}


def test_every_divergence_names_the_case_that_shows_it() -> None:
    text = (ROOT / "spec" / "appendices" / "29-divergences.md").read_text()
    shown = dict(re.findall(r'^\| <a id="[a-z0-9-]+"></a>\*\*(DIVR-[0-9]+)\*\* .* \| ([^|]+) \|$', text, re.MULTILINE))
    assert list(shown) == DIVERGENCES
    for name, words in shown.items():
        cases = re.findall(r"`([a-z0-9-]+)`", words)
        assert cases, name
        assert set(cases) <= set(CASES), name


def test_the_smoke_cases_and_the_probes_are_cases_that_must_hold() -> None:
    assert set(SMOKE) <= set(CASES)
    assert set(PROBES) <= set(CASES)
    assert 20 <= len(SMOKE) <= 25
    assert {CASES[case_id].level for case_id in SMOKE} == {"must"}


# ---- the index ----


def test_the_index_is_of_these_cases() -> None:
    assert faults_of_index() == []
    assert load_suite().version == load_index()["version"]
    assert render_updated_index() == (FIXTURES / "index.toml").read_text()


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite of three cases with an index of its own."""
    (tmp_path / "cases" / "rstr").mkdir(parents=True)
    for name in ("rstr-bare", "rstr-empty-key", "rstr-bare-shadowed"):
        (tmp_path / "cases" / "rstr" / f"{name}.toml").write_bytes(
            (FIXTURES / "cases" / "rstr" / f"{name}.toml").read_bytes()
        )
    (tmp_path / "index.toml").write_text(render_updated_index(tmp_path))
    assert load_index(tmp_path)["version"] == 1
    assert faults_of_index(tmp_path) == []
    return tmp_path


def test_a_changed_case_without_a_changed_version_is_a_fault(suite: Path) -> None:
    case = suite / "cases" / "rstr" / "rstr-bare.toml"
    case.write_text(case.read_text() + "# more\n")
    assert faults_of_index(suite) == ["rstr-bare: changed, and the suite's version is not"]
    with pytest.raises(BrokenCaseError):
        load_suite(suite)
    # To change the hash by hand does not help.
    index = suite / "index.toml"
    updated = render_updated_index(suite)
    hashes = {name: each["sha256"] for name, each in tomllib.loads(updated)["cases"].items()}
    old = load_index(suite)["cases"]["rstr-bare"]["sha256"]
    index.write_text(index.read_text().replace(old, hashes["rstr-bare"]))
    assert faults_of_index(suite) == ["version 1 had other cases"]


def test_an_update_says_which_version_changed_what_and_retires_for_good(suite: Path) -> None:
    index = suite / "index.toml"
    case = suite / "cases" / "rstr" / "rstr-bare.toml"
    text = case.read_text()
    case.write_text(text + "# more\n")
    index.write_text(render_updated_index(suite))
    found = load_index(suite)
    assert found["version"] == 2
    assert {name: each["version"] for name, each in found["cases"].items()} == {
        "rstr-bare": 2, "rstr-bare-shadowed": 1, "rstr-empty-key": 1,
    }  # fmt: skip
    assert faults_of_index(suite) == []
    assert render_updated_index(suite) == index.read_text()
    case.unlink()
    assert faults_of_index(suite) == ["rstr-bare: in the index, and gone"]
    index.write_text(render_updated_index(suite))
    assert load_index(suite)["retired"] == {"rstr-bare": 3}
    assert faults_of_index(suite) == []
    case.write_text(text)
    index.write_text(render_updated_index(suite))
    assert faults_of_index(suite) == ["rstr-bare: retired, never to be used again"]


def test_a_case_that_is_not_in_the_index_is_a_fault(suite: Path) -> None:
    (suite / "cases" / "rstr" / "rstr-envelope.toml").write_bytes(
        (FIXTURES / "cases" / "rstr" / "rstr-envelope.toml").read_bytes()
    )
    assert faults_of_index(suite) == ["rstr-envelope: not in the index"]
