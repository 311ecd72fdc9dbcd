"""Reads and applies what a program is known to do otherwise, a text file in its own repository.

A line is one of

    CLAUSE  aspect  {form}  N cases          # reason, link
    case-id-or-glob  VERDICT  {aspect: form; aspect: form}  # reason, link

The first is a *deviation*: what N cases of the suite show of one cause. The second is a single case
that fails, and what it fails by. Without braces it fails by anything, as long as the
verdict is that. Comment lines are kept. The list is strict, so that it cannot become stale:

    a case                                        is
    --------------------------------------------  --------------------------------------
    whose differences are all listed              XFAIL, as expected
    that is listed and passes                     XPASS, unexpected: remove its line
    that fails with another verdict or difference that verdict, unexpected
    that is UNSUPPORTED                           UNSUPPORTED, as expected

    a line                                        is
    --------------------------------------------  --------------------------------------
    that nothing needs                            stale, and the run is red
    with more or fewer cases than the run showed  stale, and the run is red
    that is a glob of more than 20 cases          broken: a usage error
    without a reason, with an unknown clause,     broken
    aspect or verdict, or with what an earlier
    line lists too

Numbers of cases are compared if the whole suite has run. A case that this machine cannot run may be missing.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from ekvexplain.clauses import load_clauses

from ekvconform.cases.errors import UsageError
from ekvconform.judge.aspects import ASPECTS, OUTCOME
from ekvconform.judge.differences import Difference
from ekvconform.judge.verdicts import (
    CRASH,
    ESCAPED,
    FAIL,
    HANG,
    LIMIT,
    PASS,
    THE_MACHINE,
    UNSUPPORTED,
    UNTOLD,
    VOID,
    WRONG_REASON,
    Judgement,
)

XFAIL: Final = "XFAIL"
XPASS: Final = "XPASS"
EXPECTABLE: Final = (FAIL, UNTOLD, WRONG_REASON, CRASH, HANG, LIMIT, ESCAPED)
"""Verdicts that a list may contain. VOID is not a property of the program."""
MAX_GLOB_CASES: Final = 20
DEVIATION: Final = re.compile(
    r"(?P<clause>[A-Z]{4}-[0-9]+)\s+(?P<aspect>[a-z]+)\s+\{(?P<form>.+)\}\s+(?P<count>[0-9]+) cases?"
    r"\s+#\s*(?P<reason>\S.*)"
)
SINGLE: Final = re.compile(r"(?P<word>\S+)\s+(?P<verdict>[A-Z_]+)(?:\s+\{(?P<forms>.*)\})?\s+#\s*(?P<reason>\S.*)")
NO_REASON_YET: Final = "not looked into yet"
FEW: Final = 2
"""A form of so many cases is worth a line of its own."""

Form = tuple[str, str]
"""Aspect and form of a difference: what a list knows it by."""


class BrokenListError(UsageError):
    """Raised for a list that is not valid; names the line and the problem."""


def form_of(difference: Difference) -> Form:
    """Return aspect and form of a difference, as they stand in a list."""
    return difference.aspect, _written(difference.form)


def _written(form: str) -> str:
    """Return a form as it stands in a list, where braces, semicolons and `#` have a meaning."""
    return " ".join(re.sub(r"[{};#\x00-\x1f\x7f]", ".", form).split())


@dataclass(frozen=True, slots=True)
class Deviation:
    """A line about what several cases show."""

    clause: str
    form: Form
    count: int
    reason: str
    line: int


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """A line about a case."""

    word: str
    """A case id, or a glob."""
    verdict: str
    forms: frozenset[Form] | None
    """What it fails by; None for anything."""
    reason: str
    line: int


@dataclass(frozen=True, slots=True)
class Applied:
    """A run, seen with a list."""

    judgements: list[Judgement]
    """With verdicts adjusted by the list."""
    stale: list[str]
    """Lines that are not true any more, and why."""
    listed: frozenset[Form]
    """What deviations are listed."""
    free: frozenset[str] = frozenset()
    """Cases that may fail by anything, and so deviate by anything."""

    def unlisted(self, judgement: Judgement) -> tuple[Difference, ...]:
        """Return the deviations of a case that are not listed; each makes the run red."""
        if judgement.case.id in self.free:
            return ()
        return tuple(each for each in judgement.deviations if form_of(each) not in self.listed)


@dataclass(frozen=True, slots=True)
class KnownFailures:
    """A list, resolved for the cases of a suite."""

    path: str = ""
    deviations: tuple[Deviation, ...] = ()
    by_case: dict[str, KnownFailure] | None = None
    unmatched: tuple[KnownFailure, ...] = ()
    """Lines that match no case."""

    @property
    def line_count(self) -> int:
        """Number of lines."""
        return len(self.deviations) + len({each.line for each in (self.by_case or {}).values()}) + len(self.unmatched)

    def apply(self, judgements: Sequence[Judgement], *, is_whole: bool) -> Applied:
        """Return a run as the list sees it; `is_whole` says whether the whole suite has run."""
        listed = frozenset(each.form for each in self.deviations)
        by_case = self.by_case or {}
        adjusted = [self._adjusted(each, by_case.get(each.case.id), listed) for each in judgements]
        stale = [f"line {each.line} matches no case: {each.word}" for each in self.unmatched]
        free = frozenset(name for name, known in by_case.items() if known.forms is None)
        return Applied(adjusted, [*stale, *self._miscounted(judgements, is_whole=is_whole)], listed, free)

    def _adjusted(self, judgement: Judgement, known: KnownFailure | None, listed: frozenset[Form]) -> Judgement:
        if judgement.verdict in (UNSUPPORTED, VOID):
            return judgement
        left = frozenset(form_of(each) for each in judgement.own) - listed
        if known is None:
            is_known = judgement.verdict in EXPECTABLE and not left
            return replace(judgement, verdict=XFAIL) if is_known else judgement
        where = f"{known.verdict}, by line {known.line}"
        if judgement.verdict == PASS:
            words = "PASS: remove the line"
            return replace(judgement, verdict=XPASS, differences=(Difference(OUTCOME, "verdict", where, words, words),))
        if judgement.verdict != known.verdict:
            listing = Difference(
                OUTCOME, "verdict", where, judgement.verdict, f"{judgement.verdict} for {known.verdict}"
            )
            return replace(judgement, differences=(listing, *judgement.differences))
        if known.forms is None or left == known.forms:
            return replace(judgement, verdict=XFAIL)
        words = f"what it fails by, by line {known.line}"
        texts = [_render_forms(each) or "nothing else" for each in (known.forms - left, left - known.forms)]
        listing = Difference(OUTCOME, words, texts[0], texts[1], "fails by something else")
        return replace(judgement, differences=(listing, *judgement.differences))

    def _miscounted(self, judgements: Sequence[Judgement], *, is_whole: bool) -> Iterator[str]:
        counts = count_forms(judgements)
        away = sum(each.verdict == UNSUPPORTED and each.differences[0].place == THE_MACHINE for each in judgements)
        for each in self.deviations:
            found = counts[each.form]
            if found > each.count or (is_whole and found < each.count - away):
                words = f"line {each.line} says {_cases(each.count)}, the run shows {found}"
                yield f"{words}: {each.clause} {each.form[0]} {{{each.form[1]}}}"


NOTHING_KNOWN: Final = KnownFailures()


def count_forms(judgements: Iterable[Judgement]) -> Counter[Form]:
    """Return the number of cases that show each form."""
    return Counter(
        form
        for each in judgements
        if each.verdict not in (UNSUPPORTED, VOID)
        for form in {form_of(difference) for difference in each.differences}
    )


def load_known_failures(path: Path, case_ids: Sequence[str]) -> KnownFailures:
    """Read a list for all cases of a suite. Raises `BrokenListError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise BrokenListError(f"{path}: {error}") from error
    by_case: dict[str, KnownFailure] = {}
    by_form: dict[Form, Deviation] = {}
    unmatched = []
    for known in decode_list(text, str(path)):
        where = f"{path}:{known.line}"
        if isinstance(known, Deviation):
            if known.form in by_form:
                raise BrokenListError(f"{where}: {known.form[1]} is in line {by_form[known.form].line} too")
            by_form[known.form] = known
            continue
        matching = [case_id for case_id in case_ids if fnmatchcase(case_id, known.word)]
        if len(matching) > MAX_GLOB_CASES:
            raise BrokenListError(f"{where}: {known.word} names {len(matching)} cases, more than {MAX_GLOB_CASES}")
        if not matching:
            unmatched.append(known)
        for case_id in matching:
            if case_id in by_case:
                raise BrokenListError(f"{where}: {case_id} is in line {by_case[case_id].line} too")
            by_case[case_id] = known
    return KnownFailures(str(path), tuple(by_form.values()), by_case, tuple(unmatched))


def decode_list(text: str, path: str) -> list[KnownFailure | Deviation]:
    """Return the lines of a list. Raises `BrokenListError`."""
    found: list[KnownFailure | Deviation] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{path}:{number}"
        if match := DEVIATION.fullmatch(line.strip()):
            if match["clause"] not in load_clauses():
                raise BrokenListError(f"{where}: {match['clause']} is not a clause of the spec")
            form = (_known_aspect(match["aspect"], where), match["form"])
            found.append(Deviation(match["clause"], form, int(match["count"]), match["reason"], number))
            continue
        match = SINGLE.fullmatch(line.strip())
        if match is None:
            words = "neither `case-id  VERDICT  # reason` nor `CLAUSE  aspect  {form}  N cases  # reason`"
            raise BrokenListError(f"{where}: {words}")
        if match["verdict"] not in EXPECTABLE:
            raise BrokenListError(f"{where}: {match['verdict']} is not one of {', '.join(EXPECTABLE)}")
        forms = None if match["forms"] is None else frozenset(_iter_forms(match["forms"], where))
        found.append(KnownFailure(match["word"], match["verdict"], forms, match["reason"], number))
    return found


def _known_aspect(name: str, where: str) -> str:
    if name not in ASPECTS:
        raise BrokenListError(f"{where}: {name} is not one of {', '.join(ASPECTS)}")
    return name


def _iter_forms(text: str, where: str) -> Iterator[Form]:
    for part in text.split("; "):
        aspect, colon, form = part.strip().partition(": ")
        if not colon:
            raise BrokenListError(f"{where}: {part!r} is not `aspect: form`")
        yield _known_aspect(aspect, where), form


def _render_forms(forms: Iterable[Form]) -> str:
    return "; ".join(f"{aspect}: {form}" for aspect, form in sorted(forms))


def _cases(count: int) -> str:
    return f"{count} case{'' if count == 1 else 's'}"


# ---- writing a list ----


def render_updated(text: str, judgements: Sequence[Judgement]) -> str:
    """Render the shortest list that is true for a run of the whole suite; reasons and comments are kept.

    `judgements` are those before a list was applied. A form of several cases gets a line, and a deviation in any case;
    a case gets one for the forms that are left. A glob is kept if it is right for all its cases.
    """
    bad = {each.case.id: each for each in judgements if each.verdict in EXPECTABLE}
    old = decode_list(text, "the list")
    globs = [each for each in old if isinstance(each, KnownFailure) and _is_right(each, judgements)]
    in_globs = {name for each in globs for name in bad if fnmatchcase(name, each.word)}
    clauses, wide = _wide_forms([each for each in judgements if each.case.id not in in_globs])
    counts = count_forms(judgements)
    new: dict[str, str] = {}
    for form in sorted(wide, key=lambda each: (-counts[each], each)):
        new[f"{form[0]} {form[1]}"] = f"{clauses[form]}  {form[0]}  {{{form[1]}}}  {_cases(counts[form])}"
    for name, each in bad.items():
        left = {form_of(difference) for difference in each.own} - wide
        if name not in in_globs and left:
            new[name] = f"{name}  {each.verdict}  {{{_render_forms(left)}}}"
    kept = {each.line: each for each in old}
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        known = kept.get(number)
        if known is None or known in globs:
            lines.append(line)
            continue
        name = " ".join(known.form) if isinstance(known, Deviation) else known.word
        if name in new:
            lines.append(f"{new.pop(name)}  # {known.reason}")
    lines += [f"{each}  # {NO_REASON_YET}" for each in new.values()]
    return "".join(f"{line}\n" for line in lines)


def _is_right(known: KnownFailure, judgements: Iterable[Judgement]) -> bool:
    """Predicate: is this a glob that agrees with a run?"""
    if not any(each in known.word for each in "*?["):
        return False
    verdicts = {each.verdict for each in judgements if fnmatchcase(each.case.id, known.word)}
    return bool(verdicts) and verdicts <= {known.verdict, UNSUPPORTED, VOID}


def _wide_forms(judgements: Sequence[Judgement]) -> tuple[dict[Form, str], set[Form]]:
    """Return the clause of each form, and the forms that get a line of their own."""
    counts = count_forms(judgements)
    clauses: dict[Form, Counter[str]] = {}
    deviating, own = set(), {}
    for each in judgements:
        for difference in each.differences if each.verdict not in (UNSUPPORTED, VOID) else ():
            clause = difference.clause or each.case.clauses[0]
            clauses.setdefault(form_of(difference), Counter())[clause] += 1
        deviating |= {form_of(difference) for difference in each.deviations}
        if each.verdict in EXPECTABLE:
            own[each.case.id] = {form_of(difference) for difference in each.own}
    wide = deviating | {form for forms in own.values() for form in forms if counts[form] >= FEW}
    # A form whose cases all need a line of their own anyway needs none.
    for form in sorted(wide - deviating, key=lambda each: (counts[each], each)):
        if all(forms - wide for forms in own.values() if form in forms):
            wide.discard(form)
    return {form: found.most_common(1)[0][0] for form, found in clauses.items()}, wide
