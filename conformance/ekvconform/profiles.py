"""What is known of a program: how it is called, and how it says what went wrong.

member       value
-----------  ---------------------------------------------------------------------
name         for reports
command      list of words; {snapshot}, {out} and {db} are replaced, and a word
             {options} by the words of the options that a case needs. Without {db}
             the program has no other database index than 0.
verify       the same, with {out}, of the command that looks for what is wrong with a
             dump; none if the program has none
chapters     the chapters that it claims to keep, in lower case; all if not given
[options]    option = list of words, {value} is replaced. `cases` has their names.
[exit]       complete, partial, whole, findings: lists of exit statuses (default 0; that
             of complete or 3; 0; 1). refused is one too (default any from 1 to 125), or
             is told apart: snapshot-refused, tree-refused, disk-full, io-error
[[texts]]    pattern: a regular expression for a line of stderr; fault: the name
             that it stands for, or a group of that name. Groups `clause`, `offset`
             and `path` are compared too, where a case has them.
[[warnings]] the same, for lines of both streams: warning and a group "count"
[[findings]] the same, for what `verify` prints: fault and a group "path"
[features]   existing_output (default true): does it take an OUT that is there?
[limits]     seconds, memory_mib (private memory of all its processes), files_mib
"""

import os
import re
import shutil
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ekvconform.cases import DECODE, FINDINGS, OPTIONS, REFUSED, WHOLE, Case
from ekvconform.places import SPEC
from ekvconform.sandbox import Limits
from ekvconform.usage import UsageError

OUTCOMES_TABLE: Final = tomllib.loads((SPEC / "outcomes.toml").read_text(encoding="utf-8"))
CLASS_OF_STATUS: Final = {status: name for name, status in OUTCOMES_TABLE["exit"].items()}
REFUSALS: Final = ("snapshot-refused", "tree-refused", "disk-full", "io-error")
"""Exit statuses of a refusal, by their names in the spec."""
ANY_REFUSAL: Final = tuple(range(1, 126))
"""Exit statuses that a program ends with on its own account; from 126 on a shell says what went wrong."""
PARTIAL_STATUS: Final = OUTCOMES_TABLE["exit"]["partial"]
EXITS: Final = ("complete", "partial", WHOLE, FINDINGS, REFUSED, *REFUSALS)
MEMBERS: Final = {
    "name", "command", "verify", "chapters", "options", "exit", "texts", "warnings", "findings", "features", "limits",
}  # fmt: skip


class BrokenProfileError(UsageError):
    """A profile that cannot be used; says which and why."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text of a program, and the name that it stands for."""

    expression: re.Pattern[str]
    name: str


@dataclass(frozen=True, slots=True)
class Told:
    """What a program says of a refusal."""

    fault: str
    clause: str | None = None
    offset: int | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a program."""

    name: str
    command: tuple[str, ...]
    verify: tuple[str, ...] = ()
    chapters: frozenset[str] | None = None
    options: dict[str, tuple[str, ...]] = field(default_factory=dict)
    exits: dict[str, frozenset[int]] = field(default_factory=dict)
    """Outcome, or class of a refusal = exit statuses."""
    texts: tuple[Pattern, ...] = ()
    warnings: tuple[Pattern, ...] = ()
    findings: tuple[Pattern, ...] = ()
    has_existing_output: bool = True
    limits: Limits = field(default_factory=Limits)

    @property
    def documented(self) -> frozenset[int]:
        """Exit statuses that the program says it has."""
        return frozenset().union(*self.exits.values())

    @property
    def refused(self) -> frozenset[int]:
        """Exit statuses of all refusals."""
        return frozenset().union(*(self.exits[name] for name in REFUSALS))

    def statuses_of_fault(self, fault: str) -> frozenset[int]:
        """Return the exit statuses that a refusal for a fault may have."""
        return self.exits[CLASS_OF_STATUS[OUTCOMES_TABLE["faults"][fault]]]

    def lacks(self, case: Case) -> str | None:
        """Say what the program lacks for a case, or return None."""
        scene = case.scene
        if self.chapters is not None and case.chapter not in self.chapters:
            return f"the profile does not claim chapter {case.chapter.upper()}"
        words = self.command if scene.verb == DECODE else self.verify
        if not words:
            return "the profile has no command that verifies"
        if scene.database and not any("{db}" in word for word in words):
            return "the profile's command has no {db}"
        for option in scene.options:
            if option not in self.options:
                return f"the profile has no words for the option {option}"
        if scene.verb == DECODE and scene.has_output and not self.has_existing_output:
            return "the profile says that the program takes no OUT that is there"
        return None

    def located(self) -> "Profile":
        """Return the profile with programs by their full paths, as seen from here."""
        return replace(self, command=_located(self.command), verify=_located(self.verify))

    def told(self, stderr: str) -> Told | None:
        """Return what a program says of a refusal, or None if no pattern fits."""
        for name, groups in _iter_matches(self.texts, stderr, "fault"):
            offset = groups.get("offset")
            return Told(name, groups.get("clause"), None if offset is None else int(offset), groups.get("path"))
        return None

    def warnings_in(self, output: str) -> dict[str, int]:
        """Return the warnings that a program gives, with their counts added up."""
        found: Counter[str] = Counter()
        for name, groups in _iter_matches(self.warnings, output, "warning"):
            found[name] += int(groups.get("count") or 1)
        return dict(found)

    def findings_in(self, output: str) -> dict[str, list[str]]:
        """Return the findings that a program names, with their paths in order."""
        found: dict[str, list[str]] = {}
        for name, groups in _iter_matches(self.findings, output, "fault"):
            found.setdefault(name, []).append(groups.get("path") or "")
        return {name: sorted(paths) for name, paths in found.items()}


def _located(words: tuple[str, ...]) -> tuple[str, ...]:
    found = shutil.which(words[0]) if words else None
    return words if found is None else (os.path.abspath(found), *words[1:])


def _iter_matches(patterns: Sequence[Pattern], output: str, group: str) -> Iterator[tuple[str, dict[str, str | None]]]:
    """Yield what the first pattern that fits makes of each line."""
    for line in output.splitlines():
        for pattern in patterns:
            if match := pattern.expression.search(line):
                groups = match.groupdict()
                yield groups.get(group) or pattern.name, groups
                break


def load_profile(path: Path, command: Iterable[str] = ()) -> Profile:
    """Read a profile; a command given beside it is used instead of its own. Raises `BrokenProfileError`."""
    try:
        return make_profile(tomllib.loads(path.read_text(encoding="utf-8")), tuple(command))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, re.error) as error:
        raise BrokenProfileError(f"{path}: {type(error).__name__}: {error}") from error


def make_profile(words: dict[str, Any], command: tuple[str, ...] = ()) -> Profile:
    """Make a profile of what a file says. Raises `ValueError`, `KeyError`, `TypeError` or `AttributeError`."""
    _require_known(words, MEMBERS)
    command = command or tuple(words["command"])
    if not any("{snapshot}" in word for word in command) or not any("{out}" in word for word in command):
        raise ValueError("the command has no {snapshot} or no {out}")
    verify = tuple(words.get("verify", ()))
    if verify and not any("{out}" in word for word in verify):
        raise ValueError("the command that verifies has no {out}")
    options = words.get("options", {})
    _require_known(options, OPTIONS)
    if options and "{options}" not in command:
        raise ValueError("there are options, and the command has no word {options}")
    features = words.get("features", {})
    _require_known(features, ("existing_output",))
    return Profile(
        name=words.get("name", command[0]),
        command=command,
        verify=verify,
        chapters=frozenset(words["chapters"]) if "chapters" in words else None,
        options={name: tuple(each) for name, each in options.items()},
        exits=_exits(words.get("exit", {})),
        texts=_patterns(words.get("texts", []), "fault"),
        warnings=_patterns(words.get("warnings", []), "warning"),
        findings=_patterns(words.get("findings", []), "fault"),
        has_existing_output=features.get("existing_output", True),
        limits=Limits(**words.get("limits", {})),
    )


def _require_known(words: dict[str, Any], known: Iterable[str]) -> None:
    unknown = sorted(set(words) - set(known))
    if unknown:
        raise ValueError(f"unknown members {unknown}")


def _exits(words: dict[str, Sequence[int]]) -> dict[str, frozenset[int]]:
    _require_known(words, EXITS)
    complete = words.get("complete", [0])
    refused = words.get("refused", [status for status in ANY_REFUSAL if status not in words.get("partial", ())])
    given = {
        "complete": complete,
        "partial": words.get("partial", [*complete, PARTIAL_STATUS]),
        WHOLE: words.get(WHOLE, [0]),
        FINDINGS: words.get(FINDINGS, [1]),
        **{name: words.get(name, refused) for name in REFUSALS},
    }
    accepted = {*given["complete"], *words.get("partial", ())}
    if both := sorted(accepted & {status for name in REFUSALS for status in given[name]}):
        raise ValueError(f"exit statuses {both} both accept and refuse")
    return {name: frozenset(statuses) for name, statuses in given.items()}


def _patterns(words: list[dict[str, str]], name: str) -> tuple[Pattern, ...]:
    found = []
    for each in words:
        _require_known(each, ("pattern", name))
        expression = re.compile(each["pattern"])
        if name not in each and name not in expression.groupindex:
            raise ValueError(f"the pattern {each['pattern']!r} stands for no {name}")
        found.append(Pattern(expression, each.get(name, "")))
    return tuple(found)


def bare_profile(command: Iterable[str]) -> Profile:
    """Make a profile of nothing but a command. Raises `BrokenProfileError`."""
    try:
        return make_profile({"command": list(command)})
    except ValueError as error:
        raise BrokenProfileError(str(error)) from error


PLACE: Final = r"(?: at offset (?P<offset>[0-9]+))?(?: at '?(?P<path>.*?)'?)?: "
"""How the reference names a place; a path stands in quotes where a shell wants them."""
REFERENCE: Final = make_profile(
    {
        "name": "ekvdump (reference)",
        "command": [
            sys.executable, "-m", "ekvdump", "decode", "--no-sync", "--db={db}", "{options}", "--", "{snapshot}",
            "{out}",
        ],
        "verify": [sys.executable, "-m", "ekvdump", "verify", "--", "{out}"],
        "options": {
            "only": ["--only={value}"],
            "salvage": ["--salvage"],
            "into_existing": ["--into-existing"],
            "wall_time": ["--wall-time={value}"],
            "cluster_id": ["--cluster-id={value}"],
            "elastickv_version": ["--elastickv-version={value}"],
        },
        "exit": {
            "partial": [3], "snapshot-refused": [4], "tree-refused": [5], "disk-full": [6], "io-error": [7],
        },
        "texts": [{"pattern": rf"^ekvdump: (?P<fault>[a-z-]+) \[(?P<clause>[A-Z]{{4}}-[0-9]+)\]{PLACE}"}],
        "warnings": [{"pattern": r"^warning: (?P<warning>[a-z-]+): (?P<count>[0-9]+): "}],
        "findings": [{"pattern": rf"^(?P<fault>[a-z-]+) \[(?P<clause>[A-Z]{{4}}-[0-9]+)\]{PLACE}"}],
    }
)  # fmt: skip
"""The embedded default; a program like any other."""
