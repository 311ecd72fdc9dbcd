"""Who imports whom: the arrows between the rooms of the four packages, and within each between its directories.

    python tools/imports.py

A room is a package or one of its sub-packages; modules at the top of a package are shown by
their own names. An arrow that runs both ways would be a cycle, and is red.
"""

import ast
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = {
    "ekvformat": ROOT / "reference" / "ekvformat",
    "ekvexplain": ROOT / "explain" / "ekvexplain",
    "ekvdump": ROOT / "command" / "ekvdump",
    "ekvconform": ROOT / "conformance" / "ekvconform",
}


def room_of(module: str) -> str:
    """Return the room of a module: its sub-package, or the module itself at the top of a package."""
    return ".".join(module.split(".")[:2])


def imports_of(path: Path) -> set[str]:
    """Return the modules of ours that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            # `from ekvformat import keys` names a module, `from ekvformat.keys import TTL` a constant.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= set(names) if node.module in PACKAGES else {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] in PACKAGES}


def arrows() -> dict[str, set[str]]:
    """Return room = the rooms that it imports."""
    found: dict[str, set[str]] = defaultdict(set)
    for package, directory in PACKAGES.items():
        for path in sorted(directory.rglob("*.py")):
            module = ".".join((package, *path.relative_to(directory).with_suffix("").parts))
            found[room_of(module)] |= {room_of(name) for name in imports_of(path)} - {room_of(module)}
    return dict(found)


def main() -> int:
    """Print the arrows; return 1 if one of them runs both ways."""
    found = arrows()
    for package in PACKAGES:
        rooms = [room for room in found if room.split(".")[0] == package]
        print(f"{package}: {len(rooms)} rooms, {sum(len(found[room]) for room in rooms)} arrows")
        for room in rooms:
            own = sorted(name.split(".")[1] for name in found[room] if name.startswith(f"{package}."))
            others = sorted({name for name in found[room] if not name.startswith(f"{package}.")})
            print(f"  {room.split('.')[-1]:<20} -> {', '.join([*own, *others]) or '-'}")
    both = sorted({tuple(sorted((a, b))) for a, names in found.items() for b in names if a in found.get(b, set())})
    for a, b in both:
        print(f"both ways: {a} and {b}")
    return 1 if both else 0


if __name__ == "__main__":
    sys.exit(main())
