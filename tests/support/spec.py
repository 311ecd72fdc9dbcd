"""The spec as data: clauses, divergences, worked examples; and the citations of clauses in a text."""

import re
from pathlib import Path
from typing import Final

from spec_links import LINKS

ROOT: Final = Path(__file__).resolve().parents[2]
SPEC: Final = ROOT / "spec"
CHAPTERS: Final = sorted(SPEC.glob("*/[0-9][0-9]-*.md"), key=lambda path: path.name)
"""Paths of the chapters and appendices, in the order of reading."""
TEXTS: Final = {chapter: LINKS.sub("\n", chapter.read_text(encoding="utf-8")) for chapter in CHAPTERS}
"""Path of a chapter = its text, without the definitions of links."""
DEFINITION: Final = re.compile(r'^<a id="([a-z0-9-]+)"></a>\*\*([A-Z]{4}-[0-9]+)\*\* ', re.MULTILINE)
"""Anchor and ID at the beginning of a clause."""
DIVERGENCE: Final = re.compile(r'^\| <a id="[a-z0-9-]+"></a>\*\*(DIVR-[0-9]+)\*\* \|', re.MULTILINE)
CITATION: Final = re.compile(r"\b([A-Z]{4}-[0-9]+)\b")
BLOCK: Final = re.compile(r"^```([a-z]+) ([a-z0-9-]+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
"""A worked example that has a name: its kind, its name and its lines."""

DEFINED: Final = [match[2] for text in TEXTS.values() for match in DEFINITION.finditer(text)]
"""ID of each clause, in the order of the spec."""
DIVERGENCES: Final = [match[1] for text in TEXTS.values() for match in DIVERGENCE.finditer(text)]
"""IDs of the divergences of the production decoder."""
IDS: Final = set(DEFINED) | set(DIVERGENCES)
CHAPTER_IDS: Final = {name.split("-")[0] for name in IDS}
"""The four letters of each chapter."""


def text_of(name: str) -> str:
    """Return the text of a chapter, by the name of its file."""
    (text,) = [text for path, text in TEXTS.items() if path.name == name]
    return text


def python_files(*directories: str) -> list[Path]:
    """Return all modules below some directories, of which none is empty."""
    found = [sorted((ROOT / directory).rglob("*.py")) for directory in directories]
    assert all(found)
    return [path for paths in found for path in paths]


def citations(text: str) -> set[str]:
    """Return the clause IDs in a text; a word that only looks like one begins with the letters of no chapter."""
    return {name for name in CITATION.findall(text) if name.split("-")[0] in CHAPTER_IDS}


def blocks(kind: str) -> dict[str, str]:
    """Return the worked examples of one kind (`hex`, `text`, `json`), by name."""
    found: dict[str, str] = {}
    for text in TEXTS.values():
        for each, name, lines in BLOCK.findall(text):
            if each == kind:
                assert name not in found
                found[name] = lines
    return found


def hex_blocks() -> dict[str, bytes]:
    """Return the bytes of the worked examples in hex, by name."""
    return {
        name: b"".join(bytes.fromhex(line.split("  ")[0]) for line in lines.splitlines() if line and line[0] != " ")
        for name, lines in blocks("hex").items()
    }
