"""Golden cases: one TOML file each, in `fixtures/<chapter>/`.

    member         value
    -------------  --------------------------------------------------------------
    id             a slug, the file's name; never used again
    title          the claim, as a sentence
    clauses        IDs of the spec that the case stands for
    level          "must", "should" or "may"
    snapshot       annotated hex
    [described]    the same snapshot in the words of `snapshots`, where it has them
    [run]          db (default 0), name of the snapshot file (default snapshot.fsm)
    [expect]       outcome: "complete", "partial" or "refused"; of a refusal also
                   fault, clause and, where the spec gives one, offset
    [expect.tree]  path = bytes, of everything below OUT but MANIFEST.json and
                   CHECKSUMS; nothing else may be there
    [expect.warnings]  name = count; no others may be given
    [expect.manifest]  member = value; "a.b" is b inside a; "(absent)" for one that
                   may not be there. What is not named is not compared.
    [twin]         why: what is repaired; snapshot: annotated hex that must decode; described

Bytes are written as in `snapshots`.
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ekvconform.snapshots import BadDescriptionError, decode_bytes, decode_hex, describe_snapshot, render_hex

LEVELS: Final = ("must", "should", "may")
OUTCOMES: Final = ("complete", "partial", "refused")
MEMBERS: Final = {"id", "title", "clauses", "level", "snapshot", "described", "run", "expect", "twin"}
EXPECTED: Final = {"outcome", "fault", "clause", "offset", "tree", "warnings", "manifest"}
ABSENT: Final = "(absent)"
"""Of a member of MANIFEST.json that may not be there."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What must come of a run."""

    outcome: str
    fault: str | None = None
    clause: str | None = None
    offset: int | None = None
    tree: dict[str, bytes] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """One golden case."""

    id: str
    chapter: str
    title: str
    clauses: tuple[str, ...]
    level: str
    snapshot: bytes
    expected: Expected
    database: int = 0
    snapshot_name: str = "snapshot.fsm"
    twin: bytes | None = None
    """The same snapshot with its one defect repaired."""


class BrokenCaseError(Exception):
    """A fixture that is no case; says which and why."""


def load_case(path: Path) -> Case:
    """Read one fixture. Raises `BrokenCaseError`."""
    try:
        case = tomllib.loads(path.read_text(encoding="utf-8"))
        _require(not set(case) - MEMBERS, f"unknown members {set(case) - MEMBERS}")
        _require(case["id"] == path.stem, "the id is not the file's name")
        _require(case["level"] in LEVELS, f"level {case['level']!r}")
        _require(bool(case["clauses"]) and bool(case["title"]), "no clauses or no title")
        run, twin = case.get("run", {}), case.get("twin")
        for described in filter(None, (case, twin)):
            _require_described(described)
        return Case(
            id=case["id"],
            chapter=path.parent.name,
            title=case["title"],
            clauses=tuple(case["clauses"]),
            level=case["level"],
            snapshot=decode_hex(case["snapshot"]),
            expected=_expected(case["expect"]),
            database=run.get("db", 0),
            snapshot_name=run.get("name", "snapshot.fsm"),
            twin=None if twin is None else decode_hex(twin["snapshot"]),
        )
    except (KeyError, TypeError, ValueError, BadDescriptionError) as error:
        raise BrokenCaseError(f"{path}: {type(error).__name__}: {error}") from error


def _require_described(case: dict[str, Any]) -> None:
    if "described" in case:
        hex_of_it = render_hex(describe_snapshot(case["described"]))
        _require(case["snapshot"] == hex_of_it, "the annotated hex is not what the description gives")


def _expected(expect: dict[str, Any]) -> Expected:
    _require(not set(expect) - EXPECTED, f"unknown members {set(expect) - EXPECTED}")
    _require(expect["outcome"] in OUTCOMES, f"outcome {expect['outcome']!r}")
    refused = expect["outcome"] == "refused"
    _require(refused == ("fault" in expect) == ("clause" in expect), "a refusal, and nothing else, has a fault")
    _require(not (refused and ("tree" in expect or "manifest" in expect)), "a refusal has no tree")
    return Expected(
        expect["outcome"],
        expect.get("fault"),
        expect.get("clause"),
        expect.get("offset"),
        {path: decode_bytes(text) for path, text in expect.get("tree", {}).items()},
        expect.get("warnings", {}),
        expect.get("manifest", {}),
    )


def _require(holds: bool, words: str) -> None:
    if not holds:
        raise ValueError(words)


def load_cases(folder: Path) -> list[Case]:
    """Read all fixtures, in the order of chapters and ids. Raises `BrokenCaseError`, for none at all too."""
    paths = sorted(folder.glob("*/*.toml"))
    if not paths:
        raise BrokenCaseError(f"{folder}: no cases")
    cases = [load_case(path) for path in paths]
    seen: dict[str, str] = {}
    for case in cases:
        if case.id in seen:
            raise BrokenCaseError(f"{case.id} stands in {seen[case.id]} and in {case.chapter}")
        seen[case.id] = case.chapter
    return cases


def select_cases(cases: Iterable[Case], words: Iterable[str]) -> list[Case]:
    """Return the cases that any word names: an id glob, a clause, a chapter or a level; all for no word."""
    from fnmatch import fnmatchcase

    wanted = list(words)
    return [
        case
        for case in cases
        if not wanted
        or any(
            fnmatchcase(case.id, word) or word.upper() in case.clauses or word in (case.chapter, case.level)
            for word in wanted
        )
    ]
