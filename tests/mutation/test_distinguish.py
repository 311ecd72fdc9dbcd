"""A value that tells a mutant from the reference is found, or it is said why it is not looked for."""

from pathlib import Path

import pytest
from distinguish import find_body
from ekvformat.outcomes import Fault
from ekvformat.redis_ttls import decode_ttl_value
from mutants import BrokenMutantError, load_mutants

MUTANTS = {mutant.name: mutant for mutant in load_mutants()}


def test_a_value_is_found_that_a_mutant_decodes_differently(tmp_path: Path) -> None:
    body = find_body(MUTANTS["rttl-short-row-is-taken"], tmp_path, 8)
    assert body is not None
    assert len(body) < 8
    with pytest.raises(Fault, match=r"\[invalid-value, "):
        decode_ttl_value(body)


def test_what_no_single_value_shows_is_not_looked_for(tmp_path: Path) -> None:
    with pytest.raises(BrokenMutantError, match=r"changes none of "):
        find_body(MUTANTS["comp-detail-is-null"], tmp_path, 1)
