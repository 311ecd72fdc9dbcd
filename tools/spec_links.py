"""Keeps the link definitions at the end of each chapter of the spec: `make spec`.

In the text of a chapter an ID in brackets, such as [FILE-3], is a Markdown reference to a
link that is defined at the end of the same file. The definitions are made here from the
IDs that the text cites; a test says if they are stale.
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SPEC: Final = Path(__file__).resolve().parent.parent / "spec"
DEFINED: Final = re.compile(r'<a id="([a-z0-9-]+)"></a>\*\*([A-Z]{4}-[0-9]+)\*\*')
"""Anchor and ID where a clause or a divergence is defined."""
CITED: Final = re.compile(r"\[([A-Z]{4}-[0-9]+)\](?!\()")
LINKS: Final = re.compile(r"\n+(?:\[[A-Z]{4}-[0-9]+\]: [^\n]*\n)*\Z")
"""The definitions at the end of a file, and the blank lines before them."""
CODE: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def load_chapters() -> dict[Path, str]:
    """Return the text of the first page and of every chapter and appendix, without link definitions."""
    paths = [SPEC / "README.md", *sorted(SPEC.glob("*/[0-9][0-9]-*.md"), key=lambda path: path.name)]
    return {path: LINKS.sub("\n", path.read_text(encoding="utf-8")) for path in paths}


def places_of(chapters: Mapping[Path, str]) -> dict[str, tuple[Path, str]]:
    """Return ID = file and anchor, in the order of the spec."""
    return {match[2]: (path, match[1]) for path, text in chapters.items() for match in DEFINED.finditer(text)}


def render_chapter(path: Path, text: str, places: Mapping[str, tuple[Path, str]]) -> str:
    """Return a chapter with the definitions of the links that it uses."""
    cited = set(CITED.findall(CODE.sub("", text)))
    lines = []
    for name, (target, anchor) in places.items():
        if name in cited:
            file = "" if target == path else os.path.relpath(target, path.parent)
            lines.append(f"[{name}]: {file}#{anchor}\n")
    return text + ("\n" + "".join(lines) if lines else "")


def main() -> int:
    """Write the chapters whose definitions are stale."""
    chapters = load_chapters()
    places = places_of(chapters)
    for path, text in chapters.items():
        rendered = render_chapter(path, text, places)
        if rendered != path.read_text(encoding="utf-8"):
            path.write_text(rendered, encoding="utf-8")
            print(f"{path.relative_to(SPEC)}: links brought up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
