"""The spec as data: clauses, divergences, worked examples; and the citations of clauses in a text."""

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
SPEC: Final = ROOT / "spec"
CHAPTERS: Final = sorted(SPEC.glob("[0-9][0-9]-*.md"))
TEXTS: Final = {chapter: chapter.read_text(encoding="utf-8") for chapter in CHAPTERS}
"""Path of a chapter = its text."""
DEFINITION: Final = re.compile(r"^\*\*([A-Z]{4}-[0-9]+)\*\* · (MUST|SHOULD|MAY|defines|retired) · ", re.MULTILINE)
DIVERGENCE: Final = re.compile(r"^\| \*\*(DIVR-[0-9]+)\*\* \|", re.MULTILINE)
CITATION: Final = re.compile(r"\b([A-Z]{4}-[0-9]+)\b")
HEX_BLOCK: Final = re.compile(r"^```hex ([a-z0-9-]+)\n(.*?)^```", re.MULTILINE | re.DOTALL)

DEFINED: Final = [match.groups() for text in TEXTS.values() for match in DEFINITION.finditer(text)]
"""ID and level of each clause, in the order of the spec."""
DIVERGENCES: Final = [match[1] for text in TEXTS.values() for match in DIVERGENCE.finditer(text)]
"""IDs of the divergences of the production decoder."""
IDS: Final = {name for name, _ in DEFINED} | set(DIVERGENCES)
CHAPTER_IDS: Final = {name.split("-")[0] for name in IDS}
"""The four letters of each chapter."""


def text_of(name: str) -> str:
    """Return the text of a chapter, by the name of its file."""
    return TEXTS[SPEC / name]


def python_files(*directories: str) -> list[Path]:
    """Return all modules below some directories, of which none is empty."""
    found = [sorted((ROOT / directory).rglob("*.py")) for directory in directories]
    assert all(found)
    return [path for paths in found for path in paths]


def citations(text: str) -> set[str]:
    """Return the clause IDs in a text; a word that only looks like one begins with the letters of no chapter."""
    return {name for name in CITATION.findall(text) if name.split("-")[0] in CHAPTER_IDS}


def hex_blocks() -> dict[str, bytes]:
    """Return the worked examples in hex, by name."""
    found: dict[str, bytes] = {}
    for text in TEXTS.values():
        for name, lines in HEX_BLOCK.findall(text):
            assert name not in found
            found[name] = b"".join(
                bytes.fromhex(line.split("  ")[0]) for line in lines.splitlines() if line and line[0] != " "
            )
    return found
