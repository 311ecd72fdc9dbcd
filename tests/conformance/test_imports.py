"""The stages of the judge import one way, and none of them knows a decoder."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "conformance" / "ekvconform"
STAGES = ("cases", "run", "judge", "campaigns", "report", "cli")
"""Each imports only itself and those before it."""
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported_by(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides its stage"
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_imports_a_decoder(path: Path) -> None:
    assert {name.split(".")[0] for name in imported_by(path)} & {"ekvdump", "ekvformat"} == set()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_only_itself_and_those_before_it(stage: str) -> None:
    allowed = STAGES[: STAGES.index(stage) + 1]
    modules = sorted((PACKAGE / stage).glob("*.py"))
    assert len(modules) > 3
    for path in modules:
        for name in imported_by(path):
            top, *below = name.split(".")
            assert top != "ekvconform" or below[0] in allowed, f"{path.name} imports {name}"


def test_the_stages_are_all_directories_and_only_entry_points_lie_beside_them() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(STAGES)
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py", "pytest_plugin.py"}
