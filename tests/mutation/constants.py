"""Decoders in which one constant of the format is another, and the cases that catch them; part of `make nightly`.

Mutation tools leave what stands at the top of a module alone. `fixtures/coverage.toml`
names the cases on each side of every constant; here each constant is changed, and one of
those cases has to notice: if not in the program of its package, then in the command, which
reads dumps by the reference's constants. What survives is listed in `survivors.toml` with a
reason, and that list must not be stale.
"""

import ast
import importlib
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Final

from ekvconform.cases.loading import load_cases
from mutants import ROOT, Edit, Fate, Mutant, try_mutants
from rich.console import Console
from rich.table import Table

COVERAGE: Final = ROOT / "fixtures" / "coverage.toml"
SURVIVORS: Final = Path(__file__).resolve().parent / "survivors.toml"
CHANGES: Final = {
    int: {"plus-1": "({0}) + 1", "minus-1": "({0}) - 1"},
    bytes: {"cut": "({0})[:-1]", "other": "({0})[:-1] + bytes([({0})[-1] ^ 1])"},
    str: {"cut": "({0})[:-1]", "other": "({0})[:-1] + chr(ord(({0})[-1]) ^ 1)"},
}
"""Type of the constant = how it is changed."""
MASK_CHANGES: Final = {f"bit-{bit}": f"({{0}}) ^ {1 << bit:#010b}" for bit in range(8)}
"""Of a number that is written bit by bit."""


class InCommand(Mutant):
    """A mutant of the reference's module, run as the command, which imports it."""

    @property
    def package(self) -> str:
        """The package that is run."""
        return "ekvdump"


def iter_mutants() -> Iterator[Mutant]:
    """Yield a mutant for each change of each constant that has cases on both sides."""
    table: dict[str, list[list[str]]] = tomllib.loads(COVERAGE.read_text(encoding="utf-8"))["constants"]
    for name, sides in table.items():
        module, constant = name.rsplit(".", 1)
        imported = importlib.import_module(module)
        path = Path(str(imported.__file__))
        text = path.read_text(encoding="utf-8")
        for statement in ast.parse(text).body:
            if not (
                isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value
            ):
                continue
            if statement.target.id != constant:
                continue
            whole = ast.get_source_segment(text, statement) or ""
            value = ast.get_source_segment(text, statement.value) or ""
            type_ = type(getattr(imported, constant))
            for change, form in (MASK_CHANGES if value.startswith("0b") else CHANGES[type_]).items():
                new = whole[: -len(value)] + form.format(value)
                edit = Edit(whole + "\n", new + "\n")
                file = str(path.relative_to(ROOT))
                cases = tuple(sides[0] + sides[1])
                yield Mutant(f"{name}-{change}", (name,), f"{constant} {change}", file, (edit,), cases)


def try_each(mutants: Sequence[Mutant]) -> Iterator[Fate]:
    """Yield what becomes of each: first in the program of its package, then in the command."""
    cases = load_cases()
    fates = try_mutants(mutants, cases, 2)
    yield from (fate for fate in fates if fate.catching)
    left = [fate.mutant for fate in fates if not fate.catching]
    yield from try_mutants(
        [InCommand(*(getattr(each, field.name) for field in fields(each))) for each in left], cases, 2
    )


def main() -> int:
    """Run all of them, and print the table."""
    reasons: dict[str, str] = tomllib.loads(SURVIVORS.read_text(encoding="utf-8"))["survivors"]
    mutants = list(iter_mutants())
    table = Table("constant", "caught by", "first verdict", title=f"{len(mutants)} changed constants")
    survivors = []
    for fate in try_each(mutants):
        if fate.catching:
            table.add_row(fate.mutant.name, fate.catching[0], fate.verdicts[fate.catching[0]])
        else:
            survivors.append(fate.mutant.name)
    console = Console(width=160)
    console.print(table)
    for name in survivors:
        console.print(
            f"survived: {name}: {reasons.get(name, 'no case notices; write one, or a reason into survivors.toml')}"
        )
    stale = sorted(set(reasons) - set(survivors))
    for name in stale:
        console.print(f"stale: {name} is caught, or gone; take it out of survivors.toml")
    console.print(f"{len(mutants) - len(survivors)} of {len(mutants)} are caught, {len(survivors)} survive")
    return 1 if stale or not all(map(reasons.get, survivors)) else 0


if __name__ == "__main__":
    sys.exit(main())
