"""The list of known failures of a program that changes: it can be updated at any time, and never hides anything."""

import re

import golden
from ekvconform.judge.differences import Difference
from ekvconform.judge.known_failures import Deviation, KnownFailure, KnownFailures, decode_list, render_updated
from ekvconform.judge.verdicts import Judgement
from hypothesis import strategies as st
from hypothesis import target
from hypothesis.stateful import RuleBasedStateMachine, rule
from reach import Reach, steps

CASES = {case.id: case for case in golden.EVERY[:8]}
IDS = list(CASES)
VERDICTS = ("PASS", "FAIL", "UNTOLD", "WRONG_REASON", "CRASH", "HANG", "LIMIT", "ESCAPED", "UNSUPPORTED")
WANTED = {
    "a line by hand", "a stale line", "updated", "a line goes", "a line comes", "another verdict", "kept as it was",
    "a deviation",
    "XFAIL", "PASS", "UNSUPPORTED", *(f"now {verdict}" for verdict in VERDICTS),
}  # fmt: skip
# What a failing case fails by, at least one form of its own, and perhaps one that it is not about.
FORMS = st.sampled_from(["a", "b", "ab", "am", "bm", "abm"]).map(frozenset)
REACH = Reach("known-failures", WANTED)


def judged(case_id: str, verdict: str, forms: frozenset[str]) -> Judgement:
    """Return a judgement as a program could have it: `m` is a form that the case is not about."""
    own = [Difference("files", "it", "good", "bad", form) for form in sorted(forms - {"m"})]
    other = [Difference("modes", "it", "good", "bad", "m", "TREE-7")] if "m" in forms else []
    if verdict in ("PASS", "UNSUPPORTED"):
        own = []
    if verdict == "UNSUPPORTED":
        other = [Difference("scene", "the program", "it", "nothing")]
    return Judgement(CASES[case_id], verdict, (*own, *other))


class Listed(RuleBasedStateMachine):
    """A program that changes, its list, and runs of all cases. A model in plain words stands beside."""

    def __init__(self) -> None:
        super().__init__()
        self.verdicts = dict.fromkeys(IDS, "PASS")
        self.forms: dict[str, frozenset[str]] = dict.fromkeys(IDS, frozenset("a"))
        self.text = "# kept\n"

    def teardown(self) -> None:
        target(float(self.text.count("\n")), label="lines")

    @rule(case=st.sampled_from(IDS), verdict=st.sampled_from(VERDICTS), forms=FORMS)
    def the_program_changes(self, case: str, verdict: str, forms: frozenset[str]) -> None:
        REACH(f"now {verdict}")
        self.verdicts[case] = verdict
        self.forms[case] = forms

    @rule(case=st.sampled_from([*IDS, "gone"]), verdict=st.sampled_from(["FAIL", "CRASH"]))
    def somebody_adds_a_line(self, case: str, verdict: str) -> None:
        if not re.search(rf"^{case} ", self.text, re.MULTILINE):
            REACH("a line by hand", *(["a stale line"] if case == "gone" else []))
            self.text += f"{case}  {verdict}  # by hand\n"

    @rule()
    def the_list_is_updated(self) -> None:
        REACH("updated")
        before = lines_of(self.text)
        found = [judged(case, self.verdicts[case], self.forms[case]) for case in IDS]
        self.text = render_updated(self.text, found)
        after = lines_of(self.text)
        assert self.text.startswith("# kept\n")
        # A form of several cases has one line with its count, and what a case is not about has one in any case.
        shown = {case: self.forms_shown(case) for case in IDS}
        for name, line in after.items():
            if isinstance(line, Deviation):
                REACH("a deviation")
                assert line.count == sum(line.form[1] in forms for forms in shown.values()) > 0
                continue
            # A case has a line for what is left, and only if it fails.
            assert line.verdict == self.verdicts[name]
            wide = {each.form[1] for each in after.values() if isinstance(each, Deviation)}
            assert {form for _, form in line.forms or ()} == shown[name] - wide != set()
            REACH("a line comes" if name not in before else "another verdict")
        REACH(*(["a line goes"] if before.keys() - after.keys() else []))
        REACH(*(["kept as it was"] if before.keys() & after.keys() else []))
        for name in before.keys() & after.keys():
            assert after[name].reason == before[name].reason
        # What was updated is as expected at once, and updating it again changes nothing.
        by_case = {name: line for name, line in after.items() if isinstance(line, KnownFailure)}
        deviations = tuple(line for line in after.values() if isinstance(line, Deviation))
        applied = KnownFailures("list", deviations, by_case).apply(found, is_whole=True)
        counted = {each.verdict for each in applied.judgements}
        REACH(*counted)
        assert counted <= {"PASS", "XFAIL", "UNSUPPORTED"}
        assert applied.stale == []
        assert not any(map(applied.unlisted, found))
        assert render_updated(self.text, found) == self.text

    def forms_shown(self, case: str) -> set[str]:
        """Return the forms that a run of a case shows."""
        if self.verdicts[case] == "UNSUPPORTED":
            return set()
        return set(self.forms[case]) & ({"m"} if self.verdicts[case] == "PASS" else {"a", "b", "m"})


def lines_of(text: str) -> dict[str, KnownFailure | Deviation]:
    """Return the lines of a list, by what they are about."""
    return {each.form[1] if isinstance(each, Deviation) else each.word: each for each in decode_list(text, "list")}


CONFIG = steps(examples=100, count=30)
