"""CrossHair confirms the contracts of single values over all paths, and refutes one with a planted fault."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
CONTRACTS = TESTS / "contracts"
LINE = re.compile(r"^.*/(?P<file>[a-z]+)\.py:(?P<line>[0-9]+): (?P<kind>info|error): (?P<words>.*)$", re.MULTILINE)
CONFIRMED = "Confirmed over all paths."
SECONDS = 120
"""For a condition that is confirmed; the slowest needs a quarter of it beside other tests."""


def functions_of(file: str) -> dict[str, range]:
    """Name = lines of each function with a contract."""
    module = ast.parse((CONTRACTS / f"{file}.py").read_text())
    found = [
        each for each in module.body if isinstance(each, ast.FunctionDef) and "post:" in (ast.get_docstring(each) or "")
    ]
    return {each.name: range(each.lineno, (each.end_lineno or each.lineno) + 1) for each in found}


VALUES = functions_of("values")


def check(seconds: float, *targets: str) -> dict[str, str]:
    """Run the tool; return function = what it says of it."""
    roots = [TESTS, TESTS.parent / "support"]
    result = subprocess.run(
        [sys.executable, "-m", "crosshair", "check", "--report_all", f"--per_condition_timeout={seconds}", *targets],
        check=False,
        capture_output=True,
        text=True,
        cwd=TESTS,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(map(str, roots)), "PYTHONHASHSEED": "0"},
    )
    said: dict[str, str] = {}
    for match in LINE.finditer(result.stdout):
        for name, lines in functions_of(match["file"]).items():
            if int(match["line"]) in lines:
                said[name] = f"{match['kind']}: {match['words']}"
    assert said, result.stdout + result.stderr
    return said


@pytest.mark.parametrize("name", VALUES)
def test_a_contract_is_confirmed_over_all_paths(name: str) -> None:
    # The tool ends with 0 for one that is not confirmed too.
    assert check(SECONDS, f"contracts.values.{name}") == {name: f"info: {CONFIRMED}"}


def test_the_control_is_refuted() -> None:
    (said,) = check(SECONDS, "contracts.control").values()
    assert re.fullmatch(r"error: false when calling planted\(\d+\) \(which returns 9223372036854775807\)", said)


def test_there_is_a_contract_of_each_kind_of_value() -> None:
    decoders = {"string_value", "hll_value", "bare_value", "ttl_value", "entry_headers", "manifest_version"}
    decoders |= {"meta_of_a_set", "meta_of_a_list", "meta_of_a_stream", "score_of_a_member", "behind_what_was_trimmed"}
    encoders = {"written_envelope", "ttl_row", "version", "commit_timestamp"}
    assert set(VALUES) >= decoders | encoders
