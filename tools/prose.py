"""Size of the reference: lines of code and of prose, and the longest function of each module.

Prose is every line of a docstring, of a string behind a constant or field, and of a comment that
stands alone; imports are neither prose nor code. A format module has at least as much prose as code.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

REFERENCE: Final = Path(__file__).resolve().parent.parent / "reference" / "ekvformat"
MAX_LINES: Final = 3800
"""Largest size of the whole reference, in lines."""
MAX_FUNCTION_LINES: Final = 35
"""Largest size of one function, its docstring and comments included."""
NOT_FORMAT: Final = ("__main__", "completeness", "decode", "manifest", "outcomes", "safe_writing")
"""Modules that may have more code than prose: they put the chapters in a row, and do not describe bytes."""


class Size(NamedTuple):
    """Lines of one module."""

    module: str
    lines: int
    code: int
    prose: int
    longest_function: int

    @property
    def is_format(self) -> bool:
        """Whether the module needs as much prose as code."""
        return self.module not in NOT_FORMAT


def measure(path: Path) -> Size:
    """Count the lines of a module."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    lines = text.splitlines()
    prose = {number for number, line in enumerate(lines, 1) if line.lstrip().startswith("#")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            prose |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    imports: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    code = {number for number, line in enumerate(lines, 1) if line.strip() and number not in prose | imports}
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    longest = max(((node.end_lineno or 0) - node.lineno + 1 for node in functions), default=0)
    return Size(path.stem, len(lines), len(code), len(prose), longest)


def measure_all() -> list[Size]:
    """Count the lines of every module of the reference."""
    return [measure(path) for path in sorted(REFERENCE.glob("*.py"))]


def iter_excesses(sizes: list[Size]) -> Iterator[str]:
    """Yield what is too large, or too terse."""
    if (lines := sum(size.lines for size in sizes)) > MAX_LINES:
        yield f"the reference has {lines} lines, more than {MAX_LINES}"
    for size in sizes:
        if size.longest_function > MAX_FUNCTION_LINES:
            yield f"{size.module}: a function of {size.longest_function} lines, more than {MAX_FUNCTION_LINES}"
        if size.is_format and size.prose < size.code:
            yield f"{size.module}: {size.prose} lines of prose for {size.code} of code"


def main() -> int:
    """Print a table; return 1 if something is too large or too terse."""
    sizes = measure_all()
    print(f"{'module':<16} {'lines':>6} {'code':>6} {'prose':>6} {'longest function':>17}")
    for size in sizes:
        print(f"{size.module:<16} {size.lines:>6} {size.code:>6} {size.prose:>6} {size.longest_function:>17}")
    print(
        f"{'all':<16} {sum(s.lines for s in sizes):>6} {sum(s.code for s in sizes):>6} {sum(s.prose for s in sizes):>6}"
    )
    excesses = list(iter_excesses(sizes))
    for excess in excesses:
        print(excess)
    return 1 if excesses else 0


if __name__ == "__main__":
    sys.exit(main())
