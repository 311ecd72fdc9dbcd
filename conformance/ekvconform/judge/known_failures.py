"""Known failures of a program: a text list in its own repository.

    case-id-or-glob  VERDICT  # reason, link

Lines of nothing but a comment are kept. The list is strict, so that it cannot rot:

    a listed case that                  is
    ----------------------------------  ------------------------------------------
    gets the listed verdict             XFAIL, as expected
    passes                              XPASS, unexpected: take its line out
    gets another verdict                that verdict, unexpected
    is UNSUPPORTED                      UNSUPPORTED, as expected

    a line that                         is
    ----------------------------------  ------------------------------------------
    matches no case of the suite        stale, and the run is red
    is a glob of more than 20 cases     broken: a usage error
    has no reason, or a verdict that    broken
    cannot be expected
    names a case that a line before     broken
    names too
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from ekvconform.cases.errors import UsageError
from ekvconform.judge.differences import Difference
from ekvconform.judge.verdicts import (
    CRASH,
    ESCAPED,
    FAIL,
    HANG,
    LIMIT,
    PASS,
    UNSUPPORTED,
    VOID,
    WRONG_REASON,
    Judgement,
)

XFAIL: Final = "XFAIL"
XPASS: Final = "XPASS"
EXPECTABLE: Final = (FAIL, WRONG_REASON, CRASH, HANG, LIMIT, ESCAPED)
"""Verdicts that a list may name. VOID says nothing about the program, so nobody can know it."""
MAX_GLOB_CASES: Final = 20
LINE: Final = re.compile(r"(?P<word>\S+)\s+(?P<verdict>[A-Z_]+)\s+#\s*(?P<reason>\S.*)")


class BrokenListError(UsageError):
    """A list that cannot be used; says which line and why."""


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """One line of the list."""

    word: str
    """A case id, or a glob."""
    verdict: str
    reason: str
    line: int


@dataclass(frozen=True, slots=True)
class KnownFailures:
    """A list, as it applies to the cases of a suite."""

    by_case: dict[str, KnownFailure]
    stale: tuple[KnownFailure, ...] = ()
    """Lines that match nothing."""

    def apply(self, judgement: Judgement) -> Judgement:
        """Return the judgement as the list lets it count."""
        known = self.by_case.get(judgement.case.id)
        if known is None or judgement.verdict == UNSUPPORTED:
            return judgement
        if judgement.verdict == known.verdict:
            return replace(judgement, verdict=XFAIL)
        if judgement.verdict == PASS:
            listed = Difference("verdict", f"{known.verdict}, by line {known.line}", "PASS: take the line out")
            return replace(judgement, verdict=XPASS, differences=(listed,))
        listed = Difference("verdict", f"{known.verdict}, by line {known.line}", judgement.verdict)
        return replace(judgement, differences=(listed, *judgement.differences))


NOTHING_KNOWN: Final = KnownFailures({})


def load_known_failures(path: Path, case_ids: Sequence[str]) -> KnownFailures:
    """Read a list for the cases of a suite, selected or not. Raises `BrokenListError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise BrokenListError(f"{path}: {error}") from error
    by_case: dict[str, KnownFailure] = {}
    stale = []
    for known in decode_list(text, str(path)):
        matching = [case_id for case_id in case_ids if fnmatchcase(case_id, known.word)]
        if len(matching) > MAX_GLOB_CASES:
            words = f"{known.word} names {len(matching)} cases, more than {MAX_GLOB_CASES}"
            raise BrokenListError(f"{path}:{known.line}: {words}")
        if not matching:
            stale.append(known)
        for case_id in matching:
            if case_id in by_case:
                raise BrokenListError(f"{path}:{known.line}: {case_id} stands in line {by_case[case_id].line} too")
            by_case[case_id] = known
    return KnownFailures(by_case, tuple(stale))


def decode_list(text: str, path: str) -> list[KnownFailure]:
    """Return the lines of a list. Raises `BrokenListError`."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = LINE.fullmatch(line.strip())
        if match is None:
            raise BrokenListError(f"{path}:{number}: not `case-id  VERDICT  # reason`")
        if match["verdict"] not in EXPECTABLE:
            raise BrokenListError(f"{path}:{number}: {match['verdict']} is none of {', '.join(EXPECTABLE)}")
        found.append(KnownFailure(match["word"], match["verdict"], match["reason"], number))
    return found


def render_updated(text: str, judgements: Iterable[Judgement], stale: Iterable[KnownFailure]) -> str:
    """Return a list that fits to what a run found, with as few changes as that takes.

    `judgements` are of this run, before the list was applied. A line that names one case is
    corrected or taken out; a glob stays if it still fits to all that it names, and is taken
    out otherwise; what fails and is not listed is added at the end. Cases that did not run
    keep their lines.
    """
    verdicts = {judgement.case.id: judgement.verdict for judgement in judgements}
    dead = {known.line for known in stale}
    lines, listed = [], set()
    for number, line in enumerate(text.splitlines(), 1):
        match = LINE.fullmatch(line.strip())
        if match is None or line.lstrip().startswith("#"):
            lines.append(line)
            continue
        if number in dead:
            continue
        ran = {case_id: verdict for case_id, verdict in verdicts.items() if fnmatchcase(case_id, match["word"])}
        if all(verdict in (match["verdict"], UNSUPPORTED, VOID) for verdict in ran.values()):
            lines.append(line)
            listed |= set(ran)
        elif set(ran) == {match["word"]} and ran[match["word"]] in EXPECTABLE:
            lines.append(f"{match['word']}  {ran[match['word']]}  # {match['reason']}")
            listed |= set(ran)
    for case_id, verdict in verdicts.items():
        if verdict in EXPECTABLE and case_id not in listed:
            lines.append(f"{case_id}  {verdict}  # not looked into yet")
    return "".join(f"{line}\n" for line in lines)
