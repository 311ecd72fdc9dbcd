"""Reads profiles of programs: how one is called, and how it reports what went wrong.

member       value
-----------  ---------------------------------------------------------------------
name         for reports
command      list of words; {snapshot}, {out} and {db} are replaced, and a word
             {options} by the words of the options that a case needs. Without {db}
             the program only supports database index 0. {python} is the interpreter
             that runs ekvconform. The path of a program is relative to the directory
             of the profile.
verify       the same, with {out}, of the command that verifies a dump, if there is one
chapters     the chapters that the program claims to implement, in lower case; all if
             not given
[options]    option = list of words: salvage, into_existing, an empty list if the program
             always does it; and, with {value} among them, only, key, prefix, wall_time, cluster_id,
             elastickv_version
[exit]       complete, partial, whole, findings: lists of exit statuses (default 0; that
             of complete or 3; 0; 1). refused is one too (default any from 1 to 125), or
             in its place snapshot-refused, tree-refused, disk-full, io-error (a class
             that is omitted has none)
[[texts]]    pattern: a regular expression for a line of stderr; fault: the name
             of the fault, or a group of that name. Groups `clause`, `offset` and `path`
             are compared too, if a case has them; a group that does not match counts
             as not reported.
[[warnings]] the same, for lines of both streams: warning and a group "count"
[[findings]] the same, for what `verify` prints: fault and a group "path"
[features]   existing_output (default true): does it accept an existing OUT? without: what a
             young program does not do yet, so that it is judged by what it does: "seal"
             (no MANIFEST.json and CHECKSUMS), "outcome" (no member outcome in
             MANIFEST.json), "bare-strings"
[limits]     seconds, memory_mib (private memory of all its processes), files_mib
"""

import os
import re
import shutil
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from ekvexplain.clauses import load_clauses

from ekvconform.cases.contents import BARE, VISIBLE, contents_of
from ekvconform.cases.data_files import OUTCOMES_TABLE
from ekvconform.cases.errors import UsageError
from ekvconform.cases.golden_cases import DECODE, FINDINGS, OPTIONS, OUTCOMES, REFUSED, WHOLE, Case
from ekvconform.cases.limits import Limits

CLASS_OF_STATUS: Final = {status: name for name, status in OUTCOMES_TABLE["exit"].items()}
REFUSALS: Final = ("snapshot-refused", "tree-refused", "disk-full", "io-error")
"""Exit statuses of a refusal, by their names in the spec."""
MAX_DIGITS: Final = 30
"""Digits of a reported number that are read; no offset or count has as many."""
ANY_REFUSAL: Final = tuple(range(1, 126))
"""Exit statuses that a program may choose; those from 126 on are used by shells."""
PARTIAL_STATUS: Final = OUTCOMES_TABLE["exit"]["partial"]
EXITS: Final = ("complete", "partial", WHOLE, FINDINGS, REFUSED, *REFUSALS)
CHAPTERS: Final = tuple(dict.fromkeys(name[:4].lower() for name in load_clauses()))
SEAL: Final = "seal"
OUTCOME: Final = "outcome"
EARLIER_MANIFEST: Final = ("INTO-7", "INTO-8", "INTO-9")
"""What a dump repeats of the manifest that was there before."""
BARE_STRINGS: Final = "bare-strings"
YOUNG: Final = (SEAL, OUTCOME, BARE_STRINGS)
"""What a program may lack by its profile."""
INTERPRETER: Final = "{python}"
"""In a word of a command: the interpreter that runs ekvconform."""
MEMBERS: Final = (
    "name", "command", "verify", "chapters", "options", "exit", "texts", "warnings", "findings", "features", "limits",
)  # fmt: skip


class BrokenProfileError(UsageError):
    """Raised for a profile that is not valid; names the file and the problem."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern for a message, and the name that it stands for."""

    expression: re.Pattern[str]
    name: str


@dataclass(frozen=True, slots=True)
class Reason:
    """The reason of a refusal, as the program reports it."""

    fault: str
    clause: str | None = None
    offset: int | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """Description of a program."""

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
    without: frozenset[str] = frozenset()
    """What the program does not do yet, of `YOUNG`."""
    limits: Limits = field(default_factory=Limits)
    directory: Path = field(default_factory=Path.cwd)
    """Directory that paths of programs are relative to."""

    def documented(self, verb: str = DECODE) -> frozenset[int]:
        """Return all exit statuses of a command of the program."""
        return self.refused.union(*(self.exits[name] for name in OUTCOMES[verb] if name != REFUSED))

    @property
    def refused(self) -> frozenset[int]:
        """Exit statuses of all refusals."""
        return frozenset().union(*(self.exits[name] for name in REFUSALS))

    def statuses_of_fault(self, fault: str) -> frozenset[int]:
        """Return the exit statuses of a refusal for a fault; those of any refusal if its class has none."""
        return self.exits[CLASS_OF_STATUS[OUTCOMES_TABLE["faults"][fault]]] or self.refused

    def lacks(self, case: Case) -> str | None:
        """Return what the program lacks for a case, or None."""
        scene = case.scene
        if self.chapters is not None and case.chapter not in self.chapters:
            return f"the profile does not claim chapter {case.chapter.upper()}"
        if young := self._lacks_yet(case):
            return f"the profile says that the program has no {young} yet"
        words = self.command if scene.verb == DECODE else self.verify
        if not words:
            return "the profile has no verify command"
        if scene.database and not any("{db}" in word for word in words):
            return "the profile's command has no {db}"
        for option in scene.options:
            if option not in self.options:
                return f"the profile has no words for the option {option}"
        if scene.verb == DECODE and scene.has_output and not self.has_existing_output:
            return "the profile says that the program does not accept an existing OUT"
        return None

    def _lacks_yet(self, case: Case) -> str | None:
        """Return what of `without` a case is about, or needs, or None."""
        if SEAL in self.without and (case.chapter in ("mani", "sums") or case.clauses[0] in EARLIER_MANIFEST):
            return SEAL
        if OUTCOME in self.without and case.expected.manifest and all(map(_is_of_outcome, case.expected.manifest)):
            return OUTCOME
        if BARE_STRINGS in self.without and case.scene.verb == DECODE:
            contents = contents_of(case.scene.snapshot or b"")
            if any(content.type == BARE and content.fate == VISIBLE for content in contents):
                return BARE_STRINGS
        return None

    def is_compared(self, aspect: str, place: str) -> bool:
        """Predicate: is an aspect of a dump compared at a place?"""
        if SEAL in self.without and aspect in ("seal", "checksums", "form", "manifest", "counters"):
            return False
        return not (OUTCOME in self.without and place.startswith("MANIFEST.json, ") and "outcome" in place)

    def located(self) -> "Profile":
        """Return the profile with absolute paths of its programs.

        A program is run in a directory of its own, so a relative path would not do. Raises
        `BrokenProfileError` if a program does not exist.
        """
        try:
            verify = _located(self.verify, self.directory) if self.verify else ()
            return replace(self, command=_located(self.command, self.directory), verify=verify)
        except ValueError as error:
            raise BrokenProfileError(str(error)) from error

    def reason_in(self, stderr: str) -> Reason | None:
        """Return the reported reason of a refusal, or None if no pattern matches.

        A group that did not match gives the empty text, or -1 for an offset.
        """
        for name, groups in _iter_matches(self.texts, stderr, "fault"):
            offset = groups.get("offset")
            return Reason(
                name,
                (groups["clause"] or "") if "clause" in groups else None,
                (-1 if not offset else _number(offset, "offset")) if "offset" in groups else None,
                (groups["path"] or "") if "path" in groups else None,
            )
        return None

    def count_reasons(self, stderr: str) -> int:
        """Return the number of reported faults."""
        return sum(1 for _ in _iter_matches(self.texts, stderr, "fault"))

    def warnings_in(self, output: str) -> dict[str, int]:
        """Return the reported warnings, with the sums of their counts."""
        found: Counter[str] = Counter()
        for name, groups in _iter_matches(self.warnings, output, "warning"):
            found[name] += _number(groups.get("count") or "1", "count")
        return dict(found)

    def findings_in(self, output: str) -> dict[str, list[str]]:
        """Return the reported findings, with their paths in order."""
        found: dict[str, list[str]] = {}
        for name, groups in _iter_matches(self.findings, output, "fault"):
            found.setdefault(name, []).append(groups.get("path") or "")
        return {name: sorted(paths) for name, paths in found.items()}


def _is_of_outcome(name: str) -> bool:
    return name.partition(".")[0] == OUTCOME


def _located(words: tuple[str, ...], directory: Path) -> tuple[str, ...]:
    program = words[0] if os.sep not in words[0] else str(directory / words[0])
    found = shutil.which(program)
    if found is None:
        raise ValueError(f"{program} does not exist or is not executable")
    return (os.path.abspath(found), *words[1:])


def _with_interpreter(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(word.replace(INTERPRETER, sys.executable) for word in words)


def _number(text: str, group: str) -> int:
    if not text.isdecimal():
        raise BrokenProfileError(f"the group {group} of a pattern matched {text[:80]!r}, which is not a number")
    return int(text[:MAX_DIGITS])


def _iter_matches(patterns: Sequence[Pattern], output: str, group: str) -> Iterator[tuple[str, dict[str, str | None]]]:
    """Yield name and groups of the first matching pattern of each line."""
    for line in output.splitlines():
        for pattern in patterns:
            if match := pattern.expression.search(line):
                groups = match.groupdict()
                yield groups.get(group) or pattern.name, groups
                break


def load_profile(path: Path, command: Iterable[str] = ()) -> Profile:
    """Read a profile; `command` replaces its command. Raises `BrokenProfileError`."""
    try:
        given = _located(_with_interpreter(command), Path.cwd()) if command else ()
        profile = make_profile(tomllib.loads(path.read_text(encoding="utf-8")), given)
        return replace(profile, directory=path.resolve().parent)
    except (OSError, ValueError) as error:
        raise BrokenProfileError(f"{path}: {error}") from error


def bare_profile(
    command: Iterable[str], verify: Iterable[str] = (), options: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> Profile:
    """Make a profile that has only commands and options. Raises `BrokenProfileError`."""
    words: dict[str, Any] = {"command": list(command)}
    if verify:
        words["verify"] = list(verify)
    if options:
        words["options"] = {name: list(each) for name, each in options.items()}
    try:
        return make_profile(words)
    except ValueError as error:
        raise BrokenProfileError(str(error)) from error


def make_profile(words: dict[str, Any], command: tuple[str, ...] = ()) -> Profile:
    """Make a profile from the members of its file. Raises `ValueError`."""
    _require_known(words, MEMBERS, "a profile")
    command = command or _with_interpreter(_words(words, "command"))
    if not any("{snapshot}" in word for word in command) or not any("{out}" in word for word in command):
        raise ValueError("command: {snapshot} or {out} is missing")
    verify = _with_interpreter(_words(words, "verify")) if "verify" in words else ()
    if verify and not any("{out}" in word for word in verify):
        raise ValueError("verify: {out} is missing")
    options = _table(words, "options")
    _require_known(options, OPTIONS, "options")
    if any(_words(options, name) for name in options) and "{options}" not in command:
        raise ValueError('options: the command has no word "{options}" to be replaced by them')
    for name in options:
        if not _words(options, name) and not OPTIONS[name]:
            continue  # the program always does it
        has_value = any("{value}" in word for word in _words(options, name))
        if has_value != OPTIONS[name]:
            raise ValueError(f"options.{name}: {{value}} {'must not be there' if has_value else 'is missing'}")
    features = _table(words, "features")
    _require_known(features, ("existing_output", "without"), "features")
    without = _words(features, "without") if "without" in features else ()
    _require_known(without, YOUNG, "features.without")
    existing_output = features.get("existing_output", True)
    if not isinstance(existing_output, bool):
        raise ValueError(f"features.existing_output: {existing_output!r} is not true or false")
    chapters = _words(words, "chapters") if "chapters" in words else None
    _require_known(chapters or (), CHAPTERS, "chapters")
    return Profile(
        name=str(words.get("name", Path(command[0]).name)),
        command=command,
        verify=verify,
        chapters=None if chapters is None else frozenset(chapters),
        options={name: _words(options, name) for name in options},
        exits=_exits(_table(words, "exit")),
        texts=_patterns(words, "texts", "fault", OUTCOMES_TABLE["faults"]),
        warnings=_patterns(words, "warnings", "warning", OUTCOMES_TABLE["warnings"]),
        findings=_patterns(words, "findings", "fault", OUTCOMES_TABLE["faults"]),
        has_existing_output=existing_output,
        without=frozenset(without),
        limits=Limits().but(_table(words, "limits")),
    )


def _require_known(words: Iterable[str], known: Iterable[str], what: str) -> None:
    unknown = sorted(set(words) - set(known))
    if unknown:
        raise ValueError(f"{what}: {', '.join(unknown)} is not one of {', '.join(known)}")


def _table(words: dict[str, Any], name: str) -> dict[str, Any]:
    table = words.get(name, {})
    if not isinstance(table, dict):
        raise ValueError(f"{name}: not a table")
    return table


def _words(words: dict[str, Any], name: str) -> tuple[str, ...]:
    found = words.get(name)
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise ValueError(f"{name}: must be a list of words, not {found!r}")
    return tuple(found)


def _statuses(words: dict[str, Any], name: str) -> list[int]:
    found = words[name]
    if not isinstance(found, list) or not all(type(status) is int and 0 <= status < 256 for status in found):
        raise ValueError(f"exit.{name}: must be a list of exit statuses, not {found!r}")
    return found


def _exits(words: dict[str, Any]) -> dict[str, frozenset[int]]:
    _require_known(words, EXITS, "exit")
    given = {name: _statuses(words, name) for name in words}
    complete = given.get("complete", [0])
    has_classes = any(name in given for name in REFUSALS)
    if has_classes and REFUSED in given:
        raise ValueError(f"exit: either refused, or {', '.join(REFUSALS)}")
    # By default every status that a program may choose, and that is not accepted, is a refusal.
    rest = [status for status in ANY_REFUSAL if status not in (*complete, *given.get("partial", ()))]
    refused = given.get(REFUSED, [] if has_classes else rest)
    found = {
        "complete": complete,
        "partial": given.get("partial", [*complete, PARTIAL_STATUS]),
        WHOLE: given.get(WHOLE, [0]),
        FINDINGS: given.get(FINDINGS, [1]),
        **{name: given.get(name, refused) for name in REFUSALS},
    }
    accepted = {*complete, *given.get("partial", ())}
    if both := sorted(accepted & {status for name in REFUSALS for status in found[name]}):
        raise ValueError(f"exit: {both} would both accept and refuse")
    return {name: frozenset(statuses) for name, statuses in found.items()}


def _patterns(words: dict[str, Any], member: str, name: str, known: Iterable[str]) -> tuple[Pattern, ...]:
    found = []
    rows = words.get(member, [])
    if not isinstance(rows, list) or not all(isinstance(each, dict) for each in rows):
        raise ValueError(f"{member}: must be written as [[{member}]], once for each pattern")
    for number, each in enumerate(rows, 1):
        where = f"[[{member}]] {number}"
        _require_known(each, ("pattern", name), where)
        try:
            expression = re.compile(each.get("pattern"))
        except (re.error, TypeError) as error:
            raise ValueError(f"{where}: pattern {each.get('pattern')!r}: {error}") from error
        if name not in each and name not in expression.groupindex:
            raise ValueError(f"{where}: the pattern {each['pattern']!r} has neither {name} nor a group of that name")
        if name in each:
            _require_known([each[name]], known, f"{where}: {name}")
        found.append(Pattern(expression, each.get(name, "")))
    return tuple(found)
