"""The mutants stand for the whole spec, and each can be built; `make mutants` runs them."""

import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import generated_mutants
import mutants
import pytest
from ekvconform.campaigns.faults import FAULTS
from ekvconform.cases.loading import load_cases
from ekvexplain.clauses import load_clauses
from generated_mutants import Change, decorated_behind, function_of, load_explained, module_of
from mutants import PROFILES, ROOT, BrokenMutantError, Mutant, load_mutants, load_without, try_mutants

from spec import DIVERGENCES

CASES = {case.id: case for case in load_cases()}
MUSTS = {name for name, clause in load_clauses().items() if clause.level == "MUST"}
ALL = load_mutants()


def broken_ones(mutants: Iterable[Mutant]) -> list[str]:
    """Return what is wrong with mutants whose text is gone, or whose file is."""
    found = []
    for each in mutants:
        try:
            assert each.package in PROFILES, f"{each.name}: {each.file}"
            before = (ROOT / each.file).read_text()
            assert each.text() != before, f"{each.name} changes nothing"
        except (AssertionError, BrokenMutantError, IndexError, OSError) as error:
            found.append(f"{each.name}: {each.file}: {error}")
    return found


def test_there_is_one_for_each_must_clause_finding_and_divergence_or_a_reason() -> None:
    broken = {name for mutant in ALL for name in mutant.breaks}
    without = load_without()
    findings = {f"finding-{number}" for number in range(1, 24)}
    assert (MUSTS | findings | set(DIVERGENCES)) - broken == set(without)
    assert broken <= set(load_clauses()) | findings | set(DIVERGENCES)
    assert all(without.values())


def test_each_can_be_built_and_is_caught_by_cases_that_exist(tmp_path: Path) -> None:
    names = [mutant.name for mutant in ALL]
    assert len(ALL) > 700
    assert len(set(names)) == len(names)
    for mutant in ALL:
        assert set(mutant.caught_by) <= set(CASES), mutant.name
        assert set(mutant.faults) <= set(FAULTS), mutant.name
        assert re.fullmatch("[a-z]{4}(-[a-z0-9]+)+", mutant.name), mutant.name
    assert broken_ones(ALL) == []
    ALL[0].build(tmp_path)


def test_no_two_are_the_same() -> None:
    edits = [(mutant.file, mutant.edits) for mutant in ALL]
    assert len(set(edits)) == len(edits)


def mutant(**words: Any) -> Mutant:
    (one,) = [each for each in ALL if each.name == "envl-expiry-is-not-clamped"]
    return replace(one, **words)


def test_what_survives_of_generated_mutants_is_explained_where_it_stands() -> None:
    explained = load_explained()
    assert all(explained.values())
    for change in explained:
        module = generated_mutants.module_of(change.function)
        source = generated_mutants.SOURCES[module.partition(".")[0]].parent
        lines = [line.strip() for line in (source / generated_mutants.path_of(module)).read_text().splitlines()]
        assert change.old.split("\n")[0] in lines, f"stale: {change}"


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ('raise X("FILE-1", "it is cut")', 'raise X("FILE-1", "XXit is cutXX")', "wording"),
        ('raise X("FILE-1", "it is cut")', 'raise X("FILE-1", "IT IS CUT")', "wording"),
        ('raise X("FILE-1", "it is cut")', 'raise X("XXFILE-1XX", "it is cut")', ""),
        ('raise X("FILE-1", "it is cut")', 'raise X("FILE-1", None)', ""),
        ('x.encode("ascii")', 'x.encode("ASCII")', "codec"),
        ('x.encode("ascii")', 'x.encode("XXasciiXX")', ""),
        ("x < 5", "x <= 5", ""),
    ],
)
def test_a_change_of_wording_alone_is_reported_from_others(old: str, new: str, kind: str) -> None:
    assert Change("module.function", old, new).kind == kind


def test_every_module_with_a_function_has_generated_mutants() -> None:
    texts = {
        ".".join(path.relative_to(source.parent).with_suffix("").parts): path.read_text()
        for source in generated_mutants.SOURCES.values()
        for path in source.rglob("*.py")
    }
    assert len(texts) > 50
    warm = {name for name, text in texts.items() if "def " in text}
    assert set(generated_mutants.COLD) <= warm
    assert set(generated_mutants.MODULES) == warm - set(generated_mutants.COLD)


def test_what_judges_generated_mutants_exists() -> None:
    for group in generated_mutants.GROUPS:
        assert len(group.tests) > 5
        assert all((mutants.ROOT / path).is_file() for path in group.tests)


def test_what_stands_above_a_function_is_called_behind_it() -> None:
    text = (
        "class A:\n    @one\n    @two(3)\n    def f(self):\n        return 4\n    g = 5\n\n@one\nclass B:\n    x = 1\n"
    )
    behind = decorated_behind(text)
    assert behind == text.replace("    @one\n    @two(3)\n", "").replace("    g =", "    f = one(two(3)(f))\n    g =")


def test_the_names_of_generated_mutants() -> None:
    assert function_of("ekvformat.keys.x__after__mutmut_12") == "ekvformat.keys._after"
    versions = "ekvdump.engine.versions"
    assert function_of(f"{versions}.xǁOpenKeysǁ__init____mutmut_1") == f"{versions}.OpenKeys.__init__"
    assert module_of(f"{versions}.OpenKeys.__init__") == versions


def test_a_mutant_that_is_not_caught_is_reported() -> None:
    cases = [CASES[name] for name in ("envl-expiry-clamped", "envl-expiry-0", "envl-legacy")]
    caught, missed = try_mutants([mutant(), mutant(name="missed", caught_by=("envl-legacy",))], cases, 1)
    assert (caught.missed, caught.first) == ([], "FAIL")
    assert (missed.missed, missed.first) == (["envl-legacy"], "-")


def test_a_mutant_whose_text_is_gone_is_broken(tmp_path: Path) -> None:
    (edit,) = mutant().edits
    with pytest.raises(BrokenMutantError, match="holds 0 times"):
        mutant(edits=(mutants.Edit("no such text", ""),)).build(tmp_path)
    (tmp_path / "x").mkdir()
    with pytest.raises(BrokenMutantError, match="SyntaxError"):
        mutant(edits=(mutants.Edit(edit.old, "("),)).build(tmp_path / "x")


@pytest.mark.parametrize(
    "text",
    [
        "", "[[mutant]]\nname = 'visi-x'", "[[mutant]]\nname = 'rstr-x'\nbreaks = []\nwhat = ''\nedits = []",
        "[[mutant]]\nname = 'rstr-x'\nbreaks = ['RSTR-1']\nwhat = ''\nedits = []\ncaught_by = ['envl-legacy']",
        "[[mutant]]\nname = 'rstr-x'\nwhy = ''",
    ],
)  # fmt: skip
def test_other_texts_are_no_mutants(text: str, tmp_path: Path) -> None:
    (tmp_path / "rstr.toml").write_text(text)
    with pytest.raises(BrokenMutantError):
        load_mutants(tmp_path)


def test_none_is_caught_for_a_slip_of_its_own(tmp_path: Path) -> None:
    """A name that is not defined there crashes at once, and a crash is caught by every case."""
    for mutant in load_mutants():
        (tmp_path / f"{mutant.name}.py").write_text(mutant.text())
    found = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--isolated",
            "--select",
            "F821,F823",
            "--output-format",
            "concise",
            ".",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout.splitlines() == ["All checks passed!"], found.stdout
