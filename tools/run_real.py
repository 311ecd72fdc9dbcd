"""Decode the real snapshots of fixtures/real/ and print what came of them: `make run`."""

import hashlib
import json
import lzma
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
REAL = ROOT / "fixtures" / "real"
BUILD = ROOT / "build" / "real"


def verdict_of_checksums(out: Path) -> str:
    """Hash every file that CHECKSUMS names and say how many are as it says."""
    lines = (out / "CHECKSUMS").read_text().splitlines()
    whole = sum(hashlib.sha256((out / line[66:]).read_bytes()).hexdigest() == line[:64] for line in lines)
    return f"{whole} of {len(lines)}"


def main() -> int:
    """Decode each snapshot with the installed command, as a user would."""
    shutil.rmtree(BUILD, ignore_errors=True)
    table = Table("snapshot", "exit", "strings", "HLLs", "TTL rows applied", "not shown", "files whole")
    told = []
    for packed in sorted(REAL.glob("*/*.fsm.xz")):
        name = packed.parent.name
        snapshot = BUILD / name / packed.stem
        snapshot.parent.mkdir(parents=True)
        snapshot.write_bytes(lzma.decompress(packed.read_bytes()))
        out = snapshot.parent / "dump"
        command = [sys.executable, "-m", "ekvdump", "decode", "--quiet", str(snapshot), str(out)]
        run = subprocess.run(command, check=False, capture_output=True, text=True)
        row = [name, str(run.returncode)]
        if (out / "MANIFEST.json").exists():
            outcome = json.loads((out / "MANIFEST.json").read_text())["outcome"]
            counters = outcome["counters"]
            row += [str(counters["strings"]["written"]), str(counters["hlls"]["written"])]
            row += [str(counters["ttls"]["applied"])]
            row += [", ".join(f"{reason['count']} {reason['type']}" for reason in outcome["partial_reasons"])]
            row += [verdict_of_checksums(out)]
        else:
            told.append(f"{name}: {run.stderr.splitlines()[0]}")
        table.add_row(*row)
    console = Console(width=max(110, Console().width))
    console.print(table)
    for line in told:
        console.print(line, markup=False, highlight=False)
    console.print(f"The dumps lie in {BUILD.relative_to(ROOT)}/*/dump.", markup=False, highlight=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
