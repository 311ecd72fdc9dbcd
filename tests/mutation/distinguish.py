"""A value that a mutant decodes otherwise than the reference does, for a golden case that has to catch it.

    python tests/mutation/distinguish.py envl-expiry-is-not-clamped

CrossHair's `diffbehavior` looks for it, with symbolic bytes. It is good for what decodes one
value; it says nothing of what no value of a few bytes shows.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from ast import literal_eval
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mutants import ROOT, BrokenMutantError, Mutant, load_mutants

REFERENCE_SOURCE: Final = ROOT / "reference" / "ekvformat"
DECODERS: Final = {
    "ekvformat.redis_strings": "decode_string_value",
    "ekvformat.redis_hlls": "decode_hll_value",
    "ekvformat.redis_ttls": "decode_ttl_value",
}
"""Module of the reference = what decodes a value of its chapter."""
SCRIPT: Final = """
from {package}.outcomes import Fault
from {package}.{module} import {function}


def reported(body: bytes) -> object:
    try:
        value = {function}(body)
    except Fault as fault:
        return fault.name, fault.clause, fault.offset
    return tuple(value) if isinstance(value, tuple) else value
"""
GIVEN: Final = re.compile(r"^Given: \(body=(b(['\"]).*\2)\),$", re.MULTILINE)


def find_body(mutant: Mutant, directory: Path, seconds: float) -> bytes | None:
    """Return a body that tells the mutant from the reference, if one was found in time.

    Raises `BrokenMutantError` for a mutant of something else.
    """
    if mutant.module not in DECODERS:
        raise BrokenMutantError(f"{mutant.name} changes none of {', '.join(DECODERS)}")
    # Two decoders in one process need two names.
    (directory / "mutant").mkdir()
    for path in REFERENCE_SOURCE.glob("*.py"):
        text = mutant.text() if path == ROOT / mutant.file else path.read_text(encoding="utf-8")
        (directory / "mutant" / path.name).write_text(re.sub(r"\bekvformat\b", "mutant", text), encoding="utf-8")
    module = mutant.module.partition(".")[2]
    for package in ("ekvformat", "mutant"):
        script = SCRIPT.format(package=package, module=module, function=DECODERS[mutant.module])
        (directory / f"reported_by_{package}.py").write_text(script, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "crosshair",
        "diffbehavior",
        "reported_by_ekvformat.reported",
        "reported_by_mutant.reported",
    ]
    environment = {"PYTHONPATH": f"{REFERENCE_SOURCE.parent}:{directory}", "PYTHONHASHSEED": "0"}
    limit = f"--per_condition_timeout={seconds}"
    found = subprocess.run(
        [*command, limit], cwd=directory, env=environment, check=False, capture_output=True, text=True
    )
    if found.returncode not in (0, 1):
        raise BrokenMutantError(f"{mutant.name}: CrossHair ends with {found.returncode}: {found.stderr[-500:]}")
    match = GIVEN.search(found.stdout)
    return bytes(literal_eval(match[1])) if match else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what tells each of some mutants from the reference; 1 if nothing was found for one of them."""
    parser = argparse.ArgumentParser(description="Find a value that a mutant decodes otherwise than the reference.")
    parser.add_argument("names", nargs="+", metavar="MUTANT")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="for each; default %(default)s")
    options = parser.parse_args(arguments)
    by_name = {mutant.name: mutant for mutant in load_mutants()}
    status = 0
    for name in options.names:
        if name not in by_name:
            parser.error(f"{name} is not a mutant of tests/mutation/by_clause/")
        with tempfile.TemporaryDirectory(prefix="distinguish.") as directory:
            try:
                body = find_body(by_name[name], Path(directory).resolve(), options.seconds)
            except BrokenMutantError as error:
                parser.error(str(error))
        print(f"{name}: {'nothing found' if body is None else body.hex(' ').upper()}", flush=True)
        status = status or int(body is None)
    return status


if __name__ == "__main__":
    sys.exit(main())
