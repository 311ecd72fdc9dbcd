"""On a decoder that has faults, a further fault is noticed: a small part of `make masking`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ekvconform.judge.aspects import REASON
from ekvconform.judge.differences import Difference
from ekvconform.judge.verdicts import Judgement
from golden import CASES
from masking import check_reasons
from patience import HANG_SECONDS

MASKING = Path(__file__).resolve().parent / "masking.py"
SHARE = 40
"""One in so many of the further faults is tried."""


def test_further_faults_are_noticed_and_causes_are_about_as_many_as_faults() -> None:
    command = [sys.executable, str(MASKING), "six-faults", "--share", str(SHARE)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=HANG_SECONDS)
    (row,) = re.findall(r"│ six-faults(.*)│", ended.stdout)
    faults, causes, noticed, _gone, _no_effect, missed, broken, _share = row.split("│")[1:]
    assert int(faults) == 6
    assert int(causes) <= 2 * 6
    assert int(noticed) > 5
    # Of so few, one that is missed would already be more than the 5 % that `make masking` allows of all.
    assert int(missed) <= 1, ended.stdout
    assert int(broken) == 0


@pytest.mark.parametrize(("found", "is_known"), [("bad-magic", True), ("offset", False)])
def test_a_profile_that_reads_another_word_as_a_fault_stops_the_measurement(found: str, is_known: bool) -> None:
    judgement = Judgement(CASES[0], "WRONG_REASON", (Difference(REASON, "fault", "invalid-value", found),))
    if is_known:
        check_reasons([judgement])
        return
    with pytest.raises(ValueError, match="reads as faults: offset"):
        check_reasons([judgement])
