"""Everything that takes long: `make nightly`. All parts run, whatever becomes of the others, and are summed up.

Each part prints what it prints; the summary at the end says how each ended and how long it
took. The seed of the random searches is printed, and can be given again with `--seed`.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
BIN: Final = Path(sys.executable).parent
COMMAND: Final = ("--profile", "conformance/profiles/command.toml")
REFERENCE: Final = ("--profile", "conformance/profiles/reference.toml")
THE_REST: Final = ("--db={db}", "{options}", "--", "{snapshot}", "{out}")
FLUSHING: Final = {
    "command": (*COMMAND, "--", "{python}", "-m", "ekvdump", "decode", *THE_REST),
    "reference": (*REFERENCE, "--", "{python}", "-m", "ekvformat", *THE_REST),
}
"""Decoders with the flush that their profiles leave out: a flush is a system call too."""
MUTATION: Final = ROOT / "tests" / "mutation"


def parts(seed: int) -> Iterator[tuple[str, Sequence[object]]]:
    """Yield the name of each part, and its command line."""
    deep = ("--hypothesis-profile=deep", f"--hypothesis-seed={seed}", "-o", "faulthandler_timeout=0")
    search = ("tests/machines", "tests/command/test_against_reference.py")
    yield "searches", (BIN / "pytest", "-n", "auto", *deep, *search)
    for name, profile in FLUSHING.items():
        yield f"races, {name}", (BIN / "ekvconform", "step", *profile)
        yield f"failing calls, {name}", (BIN / "ekvconform", "faults", *profile)
    for name, profile in (("command", COMMAND), ("reference", REFERENCE)):
        yield f"varied cases, {name}", (BIN / "ekvconform", "run", "--quiet", f"--vary={seed}", *profile)
    yield "large snapshots", (BIN / "ekvconform", "run", "big", *COMMAND)
    yield "mutants, all cases", (sys.executable, MUTATION / "mutants.py", "--wide")
    yield "further faults on faulty decoders", (sys.executable, MUTATION / "masking.py")
    yield "changed constants", (sys.executable, MUTATION / "constants.py")
    yield "generated mutants", (sys.executable, MUTATION / "generated_mutants.py")
    yield (
        "coverage of the command",
        (BIN / "pytest", "-n", "auto", "tests/command", "--cov=ekvdump", "--cov-fail-under=95"),
    )


def main() -> int:
    """Run all parts, or those named; return 1 if one failed."""
    parser = argparse.ArgumentParser(description="Run everything that takes long, and sum it up.")
    parser.add_argument("names", nargs="*", metavar="BEGINNING", help="of the names of parts; all if none")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"), help="of the searches")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    ended: list[tuple[str, int, float]] = []
    for name, command in parts(options.seed):
        if options.names and not name.startswith(tuple(options.names)):
            continue
        print(f"\n==== {name}", flush=True)
        begin = time.monotonic()
        status = subprocess.run([str(word) for word in command], cwd=ROOT, check=False).returncode
        ended.append((name, status, time.monotonic() - begin))
    print("\n==== summary")
    for name, status, seconds in ended:
        print(f"{'passed' if status == 0 else f'FAILED ({status})':<12} {seconds / 60:6.1f} min  {name}")
    return 1 if not ended or any(status for _, status, _ in ended) else 0


if __name__ == "__main__":
    sys.exit(main())
