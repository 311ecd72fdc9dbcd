"""What is known of a program: how it is called, and how it says what went wrong.

member            value
----------------  -----------------------------------------------------------
name              for reports
command           list of words; {snapshot}, {out} and {db} are replaced
[exit]            complete, partial, refused: lists of exit statuses
[[texts]]         pattern: a regular expression for a line of stderr; fault: the
                  name that it stands for, or "(fault)" for a group of that name
[[warnings]]      the same, with warning and a group "count"
[features]        database (default true): can another index than 0 be asked for?
[limits]          seconds, memory_mib
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ekvconform.sandbox import Limits
from ekvconform.usage import UsageError


class BrokenProfileError(UsageError):
    """A profile that cannot be used; says which and why."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text of a program, and the name that it stands for."""

    expression: re.Pattern[str]
    name: str


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a program."""

    name: str
    command: tuple[str, ...]
    complete: frozenset[int] = frozenset({0})
    partial: frozenset[int] = frozenset({0})
    refused: frozenset[int] = frozenset({1})
    texts: tuple[Pattern, ...] = ()
    warnings: tuple[Pattern, ...] = ()
    has_database: bool = True
    limits: Limits = field(default_factory=Limits)

    @property
    def documented(self) -> frozenset[int]:
        """Exit statuses that the program says it has."""
        return self.complete | self.partial | self.refused

    def fault_in(self, stderr: str) -> str | None:
        """Return the name of the fault that a program speaks of, or None if no pattern fits."""
        for line in stderr.splitlines():
            for text in self.texts:
                if match := text.expression.search(line):
                    return match.groupdict().get("fault") or text.name
        return None

    def warnings_in(self, output: str) -> dict[str, int]:
        """Return the warnings that a program gives, with their counts added up."""
        found: dict[str, int] = {}
        for line in output.splitlines():
            for text in self.warnings:
                if match := text.expression.search(line):
                    groups = match.groupdict()
                    name = groups.get("warning") or text.name
                    found[name] = found.get(name, 0) + int(groups.get("count") or 1)
        return found


REFERENCE = Profile(
    name="ekvdump (reference)",
    command=(
        sys.executable, "-m", "ekvdump", "decode", "--no-sync", "--db={db}", "--", "{snapshot}", "{out}",
    ),
    complete=frozenset({0}),
    partial=frozenset({3}),
    refused=frozenset({4, 5, 6, 7}),
    texts=(Pattern(re.compile(r"^ekvdump: (?P<fault>[a-z-]+) \[[A-Z]{4}-[0-9]+\]"), ""),),
    warnings=(Pattern(re.compile(r"^warning: (?P<warning>[a-z-]+): (?P<count>[0-9]+): "), ""),),
)  # fmt: skip
"""The embedded default; a program like any other."""


def load_profile(path: Path, command: Iterable[str] = ()) -> Profile:
    """Read a profile; a command given beside it is used instead of its own. Raises `BrokenProfileError`."""
    try:
        return make_profile(tomllib.loads(path.read_text(encoding="utf-8")), tuple(command))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, re.error) as error:
        raise BrokenProfileError(f"{path}: {type(error).__name__}: {error}") from error


def make_profile(words: dict[str, Any], command: tuple[str, ...] = ()) -> Profile:
    """Make a profile of what a file says. Raises `ValueError`, `KeyError` or `TypeError`."""
    unknown = set(words) - {"name", "command", "exit", "texts", "warnings", "features", "limits"}
    if unknown:
        raise ValueError(f"unknown members {sorted(unknown)}")
    command = command or tuple(words["command"])
    if not any("{snapshot}" in word for word in command) or not any("{out}" in word for word in command):
        raise ValueError("the command has no {snapshot} or no {out}")
    exits = words.get("exit", {})
    return Profile(
        name=words.get("name", command[0]),
        command=command,
        complete=frozenset(exits.get("complete", [0])),
        partial=frozenset(exits.get("partial", exits.get("complete", [0]))),
        refused=frozenset(exits.get("refused", [1])),
        texts=tuple(Pattern(re.compile(each["pattern"]), each.get("fault", "")) for each in words.get("texts", [])),
        warnings=tuple(
            Pattern(re.compile(each["pattern"]), each.get("warning", "")) for each in words.get("warnings", [])
        ),
        has_database=words.get("features", {}).get("database", True),
        limits=Limits(**words.get("limits", {})),
    )


def bare_profile(command: Iterable[str]) -> Profile:
    """Make a profile of nothing but a command. Raises `BrokenProfileError`."""
    try:
        return make_profile({"command": list(command)})
    except ValueError as error:
        raise BrokenProfileError(str(error)) from error
