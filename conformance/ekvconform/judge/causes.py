"""Groups what differs in many cases by its cause, so that one mistake of a program is reported once.

    1. Each failing case is reported under one cause. What says which rule is broken comes before what
       only follows from it (`SYMPTOMS`); of all that is left, the cause that explains most cases.
    2. A refusal for the wrong reason is reported under the cause that refuses other cases in the same way.
    3. A deviation is reported under its own rule, whatever the verdict of the case.
    4. A symptom that mostly comes with another cause is an effect of that one.

A case whose run ended otherwise than it should, by a rule that it does not name, said nothing about
its own rule: it is *hidden* by the cause.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ekvconform.judge.aspects import (
    ASPECTS,
    COUNTERS,
    ENDING,
    EXPIRIES,
    FILES,
    FINDING,
    KEYMAP,
    MANIFEST,
    OUTCOME,
    PAYLOADS,
    REASON,
    STATUS,
    UNREADABLE,
    WARNINGS,
)
from ekvconform.judge.differences import Difference
from ekvconform.judge.known_failures import EXPECTABLE, NOTHING_KNOWN, XPASS, Applied
from ekvconform.judge.verdicts import Judgement

BY_FORM: Final = (ENDING, STATUS, REASON, FINDING)
"""Aspects of which one form is one cause, whatever clauses the cases have."""
OF_RECORDS: Final = (OUTCOME, FILES, PAYLOADS, EXPIRIES, UNREADABLE)
"""Aspects in which a broken rule about records shows, now in one and now in another."""
SYMPTOMS: Final = (STATUS, MANIFEST, COUNTERS, WARNINGS, KEYMAP)
"""Aspects that follow from others."""
HIDING: Final = (OUTCOME, ENDING)
"""A difference in one of them says nothing about the rest of a run."""
MOSTLY: Final = 0.5
"""Share of the cases of a symptom that have to show another cause, for it to be an effect of that."""

Key = tuple[str, str, str]
"""Aspect, clause and form, two of them as far as they matter: what makes two differences one cause."""


@dataclass(slots=True)
class Cause:
    """What one mistake of a program changes."""

    aspect: str
    clause: str
    """The rule that is broken, or that most of the cases name first."""
    forms: list[str] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)
    """Forms of symptoms that mostly come with it."""
    failing: list[str] = field(default_factory=list)
    """Cases that fail by it."""
    hidden: list[str] = field(default_factory=list)
    """Those of them that said nothing about their own rule."""
    deviating: list[str] = field(default_factory=list)
    """Cases that show it without being about it."""
    example: str = ""
    """The smallest case that shows it."""

    @property
    def cases(self) -> list[str]:
        """All cases that show it."""
        return [*self.failing, *self.deviating]


def key_of(difference: Difference) -> Key:
    """Return the key of a difference; differences with the same key have one cause."""
    aspect, clause, form = difference.aspect, difference.clause, difference.form
    if aspect in BY_FORM or not clause:
        return aspect, "", form
    if aspect == OUTCOME and form.startswith("accepted"):
        return aspect, "", form
    return ("records", clause, "") if aspect in OF_RECORDS else (aspect, clause, "")


def is_symptom(difference: Difference) -> bool:
    """Predicate: does the difference follow from others, where there are any?"""
    return difference.aspect in SYMPTOMS or (difference.aspect == OUTCOME and difference.clause == "OUTC-7")


def find_causes(
    judgements: Iterable[Judgement], applied: Applied | None = None, clauses: Mapping[str, str] | None = None
) -> list[Cause]:
    """Return the causes of a run, those of most cases first.

    With `applied`, only what a list of known failures does not expect. `clauses` names the clause of
    outcomes whose rule is known otherwise, by their form.
    """
    every = list(judgements)
    applied = applied or NOTHING_KNOWN.apply(every, is_whole=False)
    seen = {each.case.id: each for each in every}
    unexpected = {each.case.id: each for each in applied.judgements if each.verdict in (*EXPECTABLE, XPASS)}
    refusing = {key_of(each) for one in every for each in one.own if each == one.refusal or _refuses(each)}
    candidates = {name: _candidates(each, refusing) for name, each in unexpected.items()}
    causes: dict[Key, Cause] = {}
    for name, key in _assigned({name: list(found) for name, found in candidates.items()}).items():
        difference = candidates[name][key]
        cause = causes.setdefault(key, Cause(difference.aspect, difference.clause))
        cause.failing.append(name)
        cause.forms.append(difference.form)
    for each in applied.judgements:
        for difference in applied.unlisted(each):
            key = key_of(difference)
            cause = causes.setdefault(key, Cause(difference.aspect, difference.clause))
            cause.forms.append(difference.form)
            if each.case.id not in cause.cases:
                cause.deviating.append(each.case.id)
    _join_effects(causes, seen)
    for cause in causes.values():
        _complete(cause, seen, clauses or {})
    return sorted(causes.values(), key=lambda each: (-len(each.cases), ASPECTS.index(each.aspect), each.clause))


def _refuses(difference: Difference) -> bool:
    return difference.aspect == OUTCOME and difference.form.startswith("refused")


def _candidates(judgement: Judgement, refusing: set[Key]) -> dict[Key, Difference]:
    """Return the causes that could explain a failing case, each with its difference."""
    own = [each for each in judgement.own if each.aspect in ASPECTS]
    telling = [each for each in own if not is_symptom(each)] or own
    found = {key_of(each): each for each in telling}
    refusal = judgement.refusal
    if refusal is not None and key_of(refusal) in refusing and {each.aspect for each in telling} <= {REASON}:
        found[key_of(refusal)] = refusal
    return found


def _assigned(keys: Mapping[str, Sequence[Key]]) -> dict[str, Key]:
    """Return a cause for each case: the one that explains most of the cases that are left, again and again."""
    left = {name: set(found) for name, found in keys.items() if found}
    found: dict[str, Key] = {}
    while left:
        counts = Counter(key for each in left.values() for key in each)
        best = min(counts, key=lambda key: (-counts[key], key[0] == REASON, key))
        for name in [name for name, each in left.items() if best in each]:
            found[name] = best
            del left[name]
    return {name: found[name] for name in keys if name in found}


def _join_effects(causes: dict[Key, Cause], seen: Mapping[str, Judgement]) -> None:
    """Make each symptom that mostly comes with another cause an effect of it."""
    keys = {name: {key_of(each) for each in judgement.differences} for name, judgement in seen.items()}
    symptoms = {key for each in seen.values() for one in each.differences if is_symptom(one) for key in [key_of(one)]}
    for key in sorted(symptoms & causes.keys()):
        cause = causes[key]
        shares = Counter(other for name in cause.cases for other in keys[name] - symptoms if other in causes)
        if shares and max(shares.values()) >= MOSTLY * len(cause.cases):
            main = causes[min(shares, key=lambda other: (-shares[other], other))]
            main.effects += dict.fromkeys(cause.forms)
            main.failing += [name for name in cause.failing if name not in main.cases]
            main.deviating += [name for name in cause.deviating if name not in main.cases]
            del causes[key]


def _complete(cause: Cause, seen: Mapping[str, Judgement], clauses: Mapping[str, str]) -> None:
    cause.forms = [form for form, _ in Counter(cause.forms).most_common()]
    cases = [seen[name].case for name in cause.cases]
    if not cause.clause:
        named = Counter(case.clauses[0] for case in cases).most_common(1)[0][0]
        cause.clause = next((clauses[form] for form in cause.forms if form in clauses), named)
    if cause.aspect in HIDING:
        cause.hidden = [name for name in cause.failing if cause.clause not in seen[name].case.clauses]
    visible = [case for case in cases if case.id not in cause.hidden] or cases
    cause.example = min(visible, key=lambda case: (case.id not in cause.failing, case.weight, case.id)).id
