"""What of the reference the golden cases reach, without any unit test: `make coverage`.

The cases run in process, under `coverage`. What only unit tests reach is named, by
function; a share of lines and branches below `FLOOR` is red.
"""

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

ROOT: Final = Path(__file__).resolve().parent.parent
REPORT: Final = ROOT / "build" / "fixture-coverage.json"
CASES: Final = "tests/reference/test_golden_cases.py::test_golden_case"
FLOOR: Final = 85.0
"""Per cent of lines and branches."""


def functions_at(path: Path, lines: list[int]) -> list[str]:
    """Return the functions that lines stand in, by their names."""
    found = []
    for each in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(each, ast.FunctionDef) and any(each.lineno <= line <= (each.end_lineno or 0) for line in lines):
            found.append(each.name)
    return sorted(set(found)) or ["(top of the module)"]


def main() -> int:
    """Run the cases under `coverage`, and print what they reach."""
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "auto",
        "--cov=ekvformat",
        f"--cov-report=json:{REPORT}",
        "--cov-fail-under=0",
    ]
    passed = subprocess.run([*words, CASES], cwd=ROOT, check=False).returncode == 0
    reported: dict[str, Any] = json.loads(REPORT.read_text(encoding="utf-8"))
    table = Table("module", "covered", "only unit tests reach", title="golden cases alone", title_justify="left")
    for name, module in sorted(reported["files"].items()):
        lines = [*module["missing_lines"], *(abs(line) for line, _ in module["missing_branches"])]
        names = ", ".join(functions_at(ROOT / name, lines)) if lines else ""
        table.add_row(Path(name).stem, f"{module['summary']['percent_covered']:.1f} %", names)
    console = Console(width=180)
    console.print(table)
    total = reported["totals"]["percent_covered"]
    branches = reported["totals"]["covered_branches"], reported["totals"]["num_branches"]
    console.print(f"lines and branches: {total:.1f} % (floor {FLOOR:g} %), branches: {branches[0]} of {branches[1]}")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = settings["tool"]["coverage"]["report"]["fail_under"]
    console.print(f"with all tests: {wanted:g} %, or `make test` is red")
    return 0 if passed and total >= FLOOR else 1


if __name__ == "__main__":
    sys.exit(main())
