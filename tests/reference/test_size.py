"""The reference stays small, says why it does what it does, and touches no file but where the format asks for it."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import imports
import prose
import pytest

TOUCHING = {"safe_writing", "snapshot_file", "__main__"}
"""Modules that may touch the file system."""
FILE_SYSTEM = re.compile(
    r"\b(?:open|os\.(?!path\.(?:join|basename|dirname)\b|fsencode\b|fsdecode\b)\w+|shutil\.\w+|pathlib\.\w+|tempfile\.\w+)\b"
)
"""Names with which Python touches files; working on the text of a path is not meant."""
MODULES = sorted(prose.REFERENCE.glob("*.py"))


def imports_of(path: Path) -> Iterator[str]:
    """Yield the names of the packages that a module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            yield (node.module or "").split(".")[0]


def names_used(path: Path) -> set[str]:
    """Return every name and every chain of attributes that a module uses."""
    nodes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name | ast.Attribute))
    return {ast.unparse(node) for node in nodes}


def test_nothing_is_too_large_or_too_terse() -> None:
    assert list(prose.iter_excesses(prose.measure_all())) == []


def test_what_is_too_large_or_too_terse_is_reported() -> None:
    long = prose.Size("keys", prose.MAX_LINES + 1, code=20, prose=10, longest_function=prose.MAX_FUNCTION_LINES + 1)
    assert len(list(prose.iter_excesses([long]))) == 3
    assert list(prose.iter_excesses([long._replace(module="safe_writing", lines=30, longest_function=1)])) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_imports_nothing_but_the_standard_library_a_crc_and_the_reference(path: Path) -> None:
    assert set(imports_of(path)) <= sys.stdlib_module_names | {"google_crc32c", "ekvformat"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_only_safe_writing_and_snapshot_file_touch_the_file_system(path: Path) -> None:
    touched = {name for name in names_used(path) if FILE_SYSTEM.match(name)}
    assert path.stem in TOUCHING or touched == set()


def test_the_file_system_is_recognized() -> None:
    used = {stem: names_used(prose.REFERENCE / f"{stem}.py") for stem in ("safe_writing", "snapshot_file")}
    touched = {stem: {name for name in names if FILE_SYSTEM.match(name)} for stem, names in used.items()}
    assert touched["safe_writing"] >= {"open", "os.open", "os.mkdir", "os.unlink", "os.rename", "os.write"}
    assert touched["snapshot_file"] >= {"open", "os.open", "os.fstat", "os.stat"}


def test_no_rooms_import_each_other() -> None:
    found = imports.arrows()
    outside = {"ekvdump": {"ekvformat", "ekvexplain"}, "ekvconform": {"ekvexplain"}}
    assert {room.split(".")[0] for room in found} == {"ekvformat", "ekvexplain", "ekvdump", "ekvconform"}
    assert [(a, b) for a, names in found.items() for b in names if a in found.get(b, set())] == []
    for room, names in found.items():
        package, others = room.split(".")[0], {name.split(".")[0] for name in names}
        assert others - {package} <= outside.get(package, set()), room


def test_no_test_module_imports_another() -> None:
    modules = sorted((prose.REFERENCE.parents[1] / "tests").rglob("test_*.py"))
    names = {path.stem for path in modules}
    assert len(names) == len(modules) > 60
    assert [(path.name, name) for path in modules for name in imports_of(path) if name in names] == []
