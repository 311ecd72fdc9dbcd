"""Inspect, decode and verify the real snapshots of fixtures/real/, and print what came of them: `make run`."""

import json
import lzma
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
REAL = ROOT / "fixtures" / "real"
BUILD = ROOT / "build" / "real"


def ekvdump(*words: str) -> dict[str, Any]:
    """Run the installed command, as a script would; return its object."""
    command = [sys.executable, "-m", "ekvdump", *words, "--json"]
    reported = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    rendered: dict[str, Any] = json.loads(reported)
    return rendered


def words_of_fault(fault: dict[str, Any]) -> str:
    """Say in a line what was wrong."""
    place, name = f"offset {fault['offset']}", f"{fault['fault']}, {fault['clause']}"
    return f"{place}: {fault['detail']} [{name}]. {fault['advice']}"


def main() -> int:
    """Take each snapshot through all three commands."""
    shutil.rmtree(BUILD, ignore_errors=True)
    inspected = Table("inspect", "header", "footer", "last commit", "entries", "tombstones", "prefixes")
    decoded = Table("decode", "exit", "strings", "HLLs", "collections", "TTL records", "not shown", "verify")
    refused = []
    for packed in sorted(REAL.glob("*/*.fsm.xz")):
        name = packed.parent.name
        snapshot = BUILD / name / packed.stem
        snapshot.parent.mkdir(parents=True)
        snapshot.write_bytes(lzma.decompress(packed.read_bytes()))

        reported = ekvdump("inspect", str(snapshot))
        counts = sum(reported["entries"].values()) + reported["faulty_entries"]
        inspected.add_row(
            name, f"v{reported['header_version']}", reported["footer"], reported["last_commit_time"],
            str(counts), str(reported["tombstones"]), str(len(reported["prefixes"])),
        )  # fmt: skip

        for options, directory in ([], "dump"), (["--salvage"], "salvaged"):
            out = snapshot.parent / directory
            reported = ekvdump("decode", *options, str(snapshot), str(out))
            title = " ".join((name, *options))
            if reported["complete"] is None:
                decoded.add_row(title, str(reported["exit_status"]), "", "", "", "", "refused, see below")
                refused.append(f"{title}: {words_of_fault(reported['faults'][0])}")
                shutil.rmtree(out, ignore_errors=True)  # what is left of it has no seal
                if reported["faults"][0]["fault"] == "invalid-value":
                    continue  # with consent it can be decoded
                break
            counters = reported["counters"]
            reasons = ", ".join(
                f"{reason['count']} {reason['about' if reason['reason'] == 'undecoded-type' else 'reason']}"
                for reason in reported["partial_reasons"]
            )
            verified = ekvdump("verify", str(out))
            decoded.add_row(
                title, str(reported["exit_status"]),
                str(counters["strings"]["written"]), str(counters["hlls"]["written"]),
                str(sum(counters["collections"].values())),
                str(counters["ttls"]["applied"] + counters["ttls"]["redundant"]), reasons,
                f"{verified['files']} files, {sum(verified['counts'].values())} findings",
            )  # fmt: skip
            break
    console = Console(width=max(118, Console().width))
    console.print(inspected)
    console.print(decoded)
    for line in refused:
        console.print(line, markup=False, highlight=False)
    console.print(f"The dumps lie in {BUILD.relative_to(ROOT)}/*/.", markup=False, highlight=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
