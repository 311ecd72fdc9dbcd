"""The list of known failures of a program that changes: it can be updated at any time, and never hides anything."""

import re

import golden
from ekvconform.judge.differences import Difference
from ekvconform.judge.known_failures import KnownFailures, decode_list, render_updated
from ekvconform.judge.verdicts import Judgement
from hypothesis import strategies as st
from hypothesis import target
from hypothesis.stateful import RuleBasedStateMachine, rule
from reach import Reach, steps

CASES = {case.id: case for case in golden.EVERY[:8]}
IDS = list(CASES)
VERDICTS = ("PASS", "FAIL", "WRONG_REASON", "CRASH", "HANG", "LIMIT", "ESCAPED", "UNSUPPORTED")
WANTED = {
    "a line by hand", "a stale line", "updated", "a line goes", "a line comes", "another verdict", "kept as it was",
    "XFAIL", "PASS", "UNSUPPORTED", *(f"now {verdict}" for verdict in VERDICTS),
}  # fmt: skip
REACH = Reach("known-failures", WANTED)


def judged(case_id: str, verdict: str) -> Judgement:
    """Return a judgement as a program could have it."""
    return Judgement(CASES[case_id], verdict, (Difference("it", "good", "bad"),))


class Listed(RuleBasedStateMachine):
    """A program that changes, its list, and runs of all or some cases. A model in plain words stands beside."""

    def __init__(self) -> None:
        super().__init__()
        self.verdicts = dict.fromkeys(IDS, "PASS")
        self.text = "# kept\n"

    def teardown(self) -> None:
        target(float(self.text.count("\n")), label="lines")

    @rule(case=st.sampled_from(IDS), verdict=st.sampled_from(VERDICTS))
    def the_program_changes(self, case: str, verdict: str) -> None:
        REACH(f"now {verdict}")
        self.verdicts[case] = verdict

    @rule(case=st.sampled_from([*IDS, "gone"]), verdict=st.sampled_from(["FAIL", "CRASH"]))
    def somebody_adds_a_line(self, case: str, verdict: str) -> None:
        if not re.search(rf"^{case} ", self.text, re.MULTILINE):
            REACH("a line by hand", *(["a stale line"] if case == "gone" else []))
            self.text += f"{case}  {verdict}  # by hand\n"

    @rule(ran=st.sets(st.sampled_from(IDS), min_size=1))
    def the_list_is_updated(self, ran: set[str]) -> None:
        REACH("updated")
        before = {known.word: known for known in decode_list(self.text, "list")}
        stale = [known for known in before.values() if known.word not in IDS]
        found = [judged(case, self.verdicts[case]) for case in sorted(ran)]
        self.text = render_updated(self.text, found, stale)
        after = {known.word: known for known in decode_list(self.text, "list")}
        assert self.text.startswith("# kept\n")
        for case in IDS:
            verdict = self.verdicts[case]
            if case not in ran:
                assert after.get(case) is None or after[case].verdict == before[case].verdict
                assert (case in after) == (case in before)
                REACH(*(["kept as it was"] if case in before else []))
            elif verdict == "PASS":
                assert case not in after
                REACH(*(["a line goes"] if case in before else []))
            elif verdict == "UNSUPPORTED":
                assert (case in after) == (case in before)
            else:
                assert after[case].verdict == verdict
                assert after[case].reason == (before[case].reason if case in before else "not looked into yet")
                REACH("a line comes" if case not in before else "another verdict")
        assert set(after) <= set(IDS)
        # What was updated is as expected at once, and updating it again changes nothing.
        known = KnownFailures(after)
        counted = {known.apply(each).verdict for each in found}
        REACH(*counted)
        assert counted <= {"PASS", "XFAIL", "UNSUPPORTED"}
        assert render_updated(self.text, found, []) == self.text


CONFIG = steps(examples=100, count=30)
