"""What a state machine has reached: rules, clauses, outcomes; and a check that it reached all it should."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import hypothesis
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

BUILD = Path(__file__).resolve().parents[2] / "build"


class Reach:
    """Counts what was reached. It is one for all examples of a machine."""

    def __init__(self, machine: str, wanted: Iterable[str], others: Iterable[str] = ()) -> None:
        self._machine = machine
        self._wanted = sorted(wanted)
        self._others = set(others)
        self.counts: Counter[str] = Counter()

    def __call__(self, *names: str) -> None:
        """Count something as reached; it is in the statistics of Hypothesis too."""
        for name in names:
            assert name in self._wanted or name in self._others, f"{name} is not among what {self._machine} can reach"
            self.counts[name] += 1
            hypothesis.event(name)

    def run(self, machine: type[RuleBasedStateMachine], config: settings) -> None:
        """Run a machine, write down what it reached, and fail for what it never did."""
        self.counts.clear()
        run_state_machine_as_test(machine, settings=config)
        BUILD.mkdir(exist_ok=True)
        lines = [f"{self.counts[name]:8}  {name}\n" for name in self._wanted]
        (BUILD / f"reach-{self._machine}.txt").write_text("".join(lines))
        never = [name for name in self._wanted if not self.counts[name]]
        assert never == [], f"{self._machine} never reached {', '.join(never)}"


def steps(examples: int, count: int) -> settings:
    """Return settings with so many examples in the quick profile, and with more where the profile asks for more."""
    profile = settings.default
    assert profile is not None
    quick = settings.get_profile("quick").max_examples
    count_of_examples = max(1, examples * profile.max_examples // quick)
    return settings(profile, max_examples=count_of_examples, stateful_step_count=count, report_multiple_bugs=False)


def is_deep() -> bool:
    """Return True if the profile asks for more examples than the quick one."""
    profile = settings.default
    return profile is not None and profile.max_examples > settings.get_profile("quick").max_examples
