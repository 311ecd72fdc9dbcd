"""Reads and applies the known failures of a program, a text file in its own repository.

    case-id-or-glob  VERDICT  # reason, link

Comment lines are kept. The list is strict, so that it cannot become stale:

    a listed case that                  is
    ----------------------------------  ------------------------------------------
    gets the listed verdict             XFAIL, as expected
    passes                              XPASS, unexpected: remove its line
    gets another verdict                that verdict, unexpected
    is UNSUPPORTED                      UNSUPPORTED, as expected

    a line that                         is
    ----------------------------------  ------------------------------------------
    matches no case of the suite        stale, and the run is red
    is a glob of more than 20 cases     broken: a usage error
    has no reason, or a verdict that    broken
    cannot be expected
    names a case that an earlier line   broken
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
"""Verdicts that a list may contain. VOID is not a property of the program."""
MAX_GLOB_CASES: Final = 20
LINE: Final = re.compile(r"(?P<word>\S+)\s+(?P<verdict>[A-Z_]+)\s+#\s*(?P<reason>\S.*)")


class BrokenListError(UsageError):
    """Raised for a list that is not valid; names the line and the problem."""


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
    """A list, resolved for the cases of a suite."""

    by_case: dict[str, KnownFailure]
    stale: tuple[KnownFailure, ...] = ()
    """Lines that match no case."""

    def apply(self, judgement: Judgement) -> Judgement:
        """Return the judgement with its verdict adjusted by the list."""
        known = self.by_case.get(judgement.case.id)
        if known is None or judgement.verdict == UNSUPPORTED:
            return judgement
        if judgement.verdict == known.verdict:
            return replace(judgement, verdict=XFAIL)
        if judgement.verdict == PASS:
            listed = Difference("verdict", f"{known.verdict}, by line {known.line}", "PASS: remove the line")
            return replace(judgement, verdict=XPASS, differences=(listed,))
        listed = Difference("verdict", f"{known.verdict}, by line {known.line}", judgement.verdict)
        return replace(judgement, differences=(listed, *judgement.differences))


NOTHING_KNOWN: Final = KnownFailures({})


def load_known_failures(path: Path, case_ids: Sequence[str]) -> KnownFailures:
    """Read a list for all cases of a suite. Raises `BrokenListError`."""
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
                raise BrokenListError(f"{path}:{known.line}: {case_id} is in line {by_case[case_id].line} too")
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
            raise BrokenListError(f"{path}:{number}: {match['verdict']} is not one of {', '.join(EXPECTABLE)}")
        found.append(KnownFailure(match["word"], match["verdict"], match["reason"], number))
    return found


def render_updated(text: str, judgements: Iterable[Judgement], stale: Iterable[KnownFailure]) -> str:
    """Render a list that agrees with a run, with as few changes as possible.

    `judgements` are those before the list was applied. A line of one case is corrected or
    removed; a glob is kept if it is right for all its cases, and removed otherwise; unlisted
    failures are appended. Cases that did not run keep their lines.
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
