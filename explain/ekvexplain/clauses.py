"""Reads the clauses of the spec from its chapters."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).resolve().parent
SPEC: Final = PACKAGE / "spec" if (PACKAGE / "spec").is_dir() else PACKAGE.parent.parent / "spec"
"""The spec, inside an installed package or in the checkout."""
CHAPTERS: Final = "*/[0-9][0-9]-*.md"
"""Pattern of the chapters' paths below the spec; the numbers are the order of reading."""
CLAUSE: Final = re.compile(
    r'^<a id="[a-z0-9-]+"></a>\*\*(?P<id>[A-Z]{4}-[0-9]+)\*\* (?P<text>.*?)(?=\n\n(?!- |[0-9]+\. )|\Z)',
    re.MULTILINE | re.DOTALL,
)
"""A clause: a paragraph that begins with an anchor and an ID, and the list right behind it."""
CLAUSE_ID: Final = re.compile(r"[A-Z]{4}-[0-9]+")
"""The shape of an ID."""
LEVELS: Final = ("MUST", "SHOULD", "MAY")
"""The words of RFC 2119 that give a clause its level, the strongest first. [CONV-4]"""


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause of the spec."""

    id: str
    level: str
    """The strongest word of RFC 2119 in the clause; `defines` if there is none, `retired` if it is out of use."""
    text: str
    """The words of the clause, without links and line breaks."""
    chapter: str
    """The title of its chapter."""

    @property
    def faults(self) -> frozenset[str]:
        """Names of the faults and findings in the text of the clause."""
        return frozenset(re.findall(r"(?:fault|finding) `([a-z-]+)`", self.text))


def level_of(text: str) -> str:
    """Return the level of a clause with this text."""
    if text.startswith("*Retired.*"):
        return "retired"
    words = re.sub(r"`[^`]*`", "", text)
    return next((level for level in LEVELS if re.search(rf"\b{level}\b", words)), "defines")


def plain_text(text: str) -> str:
    """Return the text of a clause without the marks of links and lists, on one line."""
    text = re.sub(r"\[([^\]]+)\](?:\([^)]*\))?", r"\1", text)
    return " ".join(re.sub(r"^(?:-|[0-9]+\.) ", "", text, flags=re.MULTILINE).split())


@cache
def load_clauses() -> dict[str, Clause]:
    """Read all clauses, by ID, in the order of the spec."""
    found = {}
    for path in sorted(SPEC.glob(CHAPTERS), key=lambda path: path.name):
        chapter = path.read_text(encoding="utf-8")
        title = chapter.partition("\n")[0].removeprefix("# ")
        for match in CLAUSE.finditer(chapter):
            text = plain_text(match["text"])
            found[match["id"]] = Clause(match["id"], level_of(text), text, title)
    return found


def render_clause(clause: Clause) -> str:
    """Return a clause on one line: its ID, its level and its words."""
    return f"{clause.id} · {clause.level} · {clause.text}"
