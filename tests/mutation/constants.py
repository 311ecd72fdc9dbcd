"""Decoders in which one constant of the format is another, and the cases that catch them; part of `make deep`.

Mutation tools leave what stands at the top of a module alone. `fixtures/coverage.toml`
names the cases on each side of every constant; here each constant is changed, and one of
those cases has to notice. What survives stands in `tests/mutants/survivors.toml` with a
reason, and that list may not be stale.
"""

import ast
import importlib
import sys
import tomllib
from collections.abc import Iterator
from typing import Final

from ekvconform.cases.golden_cases import load_cases
from mutants import MUTANTS, REFERENCE_SOURCE, ROOT, Edit, Mutant, try_mutants
from rich.console import Console
from rich.table import Table

COVERAGE: Final = ROOT / "fixtures" / "coverage.toml"
SURVIVORS: Final = MUTANTS / "survivors.toml"
CHANGES: Final = {
    int: {"plus-1": "({0}) + 1", "minus-1": "({0}) - 1"},
    bytes: {"cut": "({0})[:-1]", "other": "({0})[:-1] + bytes([({0})[-1] ^ 1])"},
    str: {"cut": "({0})[:-1]", "other": "({0})[:-1] + chr(ord(({0})[-1]) ^ 1)"},
}
"""Type of the constant = how it is changed."""
MASK_CHANGES: Final = {f"bit-{bit}": f"({{0}}) ^ {1 << bit:#010b}" for bit in range(8)}
"""Of a number that is written bit by bit."""


def iter_mutants() -> Iterator[Mutant]:
    """Yield a mutant for each change of each constant that has cases on both sides."""
    table: dict[str, list[list[str]]] = tomllib.loads(COVERAGE.read_text(encoding="utf-8"))["constants"]
    for name, sides in table.items():
        module, constant = name.split(".")
        path = REFERENCE_SOURCE / f"{module}.py"
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
            type_ = type(getattr(importlib.import_module(f"ekvdump.{module}"), constant))
            for change, form in (MASK_CHANGES if value.startswith("0b") else CHANGES[type_]).items():
                new = whole[: -len(value)] + form.format(value)
                edit = Edit(path.name, whole + "\n", new + "\n")
                slug = f"{module}.{constant}-{change}"
                yield Mutant(slug, (name,), f"{constant} {change}", (edit,), tuple(sides[0] + sides[1]), ())


def main() -> int:
    """Run all of them, and print the table."""
    reasons: dict[str, str] = tomllib.loads(SURVIVORS.read_text(encoding="utf-8"))["survivors"]
    mutants = list(iter_mutants())
    table = Table("constant", "caught by", "first verdict", title=f"{len(mutants)} changed constants")
    survivors = []
    for fate in try_mutants(mutants, load_cases(), 2):
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
