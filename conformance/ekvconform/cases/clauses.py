"""Reads the clauses of the spec from its chapters."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

from ekvconform.cases.data_files import SPEC

CLAUSE: Final = re.compile(
    r"^\*\*(?P<id>[A-Z]{4}-[0-9]+)\*\* · (?P<level>MUST|SHOULD|MAY|defines|retired) · (?P<text>.*?)(?=\n\n|\Z)",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause of the spec."""

    id: str
    level: str
    text: str

    @property
    def faults(self) -> frozenset[str]:
        """Names of the faults and findings in the text of the clause."""
        return frozenset(re.findall(r"(?:fault|finding) `([a-z-]+)`", self.text))


@cache
def load_clauses() -> dict[str, Clause]:
    """Read all clauses, by ID, in the order of the spec."""
    found = {}
    for path in sorted(SPEC.glob("[0-9][0-9]-*.md")):
        for match in CLAUSE.finditer(path.read_text(encoding="utf-8")):
            found[match["id"]] = Clause(match["id"], match["level"], " ".join(match["text"].split()))
    return found
