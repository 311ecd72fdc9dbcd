"""What of the reference the golden cases reach, without any unit test: `make coverage`.

Each case is run as always, under `coverage`. What only unit tests reach is named, by
function; a share of branches below `FLOOR` is red.
"""

import ast
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ekvconform.cases import load_cases, select_cases
from ekvconform.profiles import REFERENCE, Profile
from ekvconform.running import judge_cases
from ekvconform.terminal import progress_of
from ekvconform.verdicts import PASS, UNSUPPORTED
from rich.console import Console
from rich.table import Table

ROOT: Final = Path(__file__).resolve().parent.parent
BUILD: Final = ROOT / "build" / "fixture-coverage"
SOURCE: Final = ROOT / "reference" / "ekvdump"
FLOOR: Final = 80.0
"""Per cent of lines and branches."""
CONFIG: Final = f"""\
[run]
branch = true
source = {SOURCE}
parallel = true
data_file = {BUILD / "data"}
[report]
exclude_also =
    if TYPE_CHECKING:
    \\.\\.\\.$
"""


def covered(profile: Profile) -> Profile:
    """Return the same program, watched by `coverage`."""
    watched = (sys.executable, "-m", "coverage", "run", f"--rcfile={BUILD / 'config'}")

    def words(command: tuple[str, ...]) -> tuple[str, ...]:
        return (*watched, *command[command.index("-m") :])

    return replace(profile, command=words(profile.command), verify=words(profile.verify))


def coverage(*words: str) -> None:
    """Run a command of `coverage`."""
    subprocess.run([sys.executable, "-m", "coverage", *words, f"--rcfile={BUILD / 'config'}"], check=True, cwd=BUILD)


def functions_at(path: Path, lines: list[int]) -> list[str]:
    """Return the functions that lines stand in, by their names."""
    found = []
    for each in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(each, ast.FunctionDef) and any(each.lineno <= line <= (each.end_lineno or 0) for line in lines):
            found.append(each.name)
    return sorted(set(found)) or ["(top of the module)"]


def main() -> int:
    """Run the suite under `coverage`, and print what it reaches."""
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    (BUILD / "config").write_text(CONFIG, encoding="utf-8")
    cases = [case for case in select_cases(load_cases(), []) if case.scene.during is None]
    # Held programs would meet the files of `coverage` too, so cases with somebody else at work are left out.
    with progress_of(len(cases)) as tell:
        found = judge_cases(cases, covered(REFERENCE), 2, strict_reasons=True, tell=lambda each: tell(each.verdict))
    wrong = [each.case.id for each in found if each.verdict not in (PASS, UNSUPPORTED)]
    coverage("combine", "--quiet")
    coverage("json", "--quiet", "-o", "coverage.json")
    told: dict[str, Any] = json.loads((BUILD / "coverage.json").read_text(encoding="utf-8"))
    table = Table("module", "covered", "only unit tests reach", title=f"{len(cases)} golden cases alone")
    for name, module in sorted(told["files"].items()):
        lines = [*module["missing_lines"], *(abs(line) for line, _ in module["missing_branches"])]
        names = ", ".join(functions_at(Path(name) if Path(name).is_absolute() else ROOT / name, lines)) if lines else ""
        table.add_row(Path(name).stem, f"{module['summary']['percent_covered']:.1f} %", names)
    console = Console(width=180)
    console.print(table)
    total = told["totals"]["percent_covered"]
    branches = told["totals"]["covered_branches"], told["totals"]["num_branches"]
    console.print(f"lines and branches: {total:.1f} % (floor {FLOOR:g} %), branches: {branches[0]} of {branches[1]}")
    if wrong:
        console.print(f"not passed: {' '.join(wrong)}")
    return 1 if wrong or total < FLOOR else 0


if __name__ == "__main__":
    sys.exit(main())
