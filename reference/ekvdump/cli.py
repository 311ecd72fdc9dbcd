"""The command `ekvdump`. Exit statuses are OUTC's."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ekvdump import __version__
from ekvdump.outcomes import EXIT_INTERRUPTED, Fault, Outcome

if TYPE_CHECKING:
    from rich.console import Console

EXIT_HELP = """\
exit status:
  0  complete dump            4  snapshot refused
  2  usage                    5  output folder refused
  3  partial dump: not every  6  disk full
     type can be shown yet    7  other I/O
"""

DECODE_HELP = f"""\
example:
  ekvdump decode 0000000000000119.fsm dump
  (cd dump && sha256sum -c CHECKSUMS)

{EXIT_HELP}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status. [OUTC-6]"""
    for stream in (sys.stdout, sys.stderr):
        # What a terminal cannot show is shown escaped; it is no reason to fail.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    try:
        return _decode(options)
    except Fault as fault:
        for each in (fault, *fault.also):
            print(f"ekvdump: {each}", file=sys.stderr)
        print(f"ekvdump: {fault.advice}", file=sys.stderr)
        return fault.exit_status
    except KeyboardInterrupt:
        print("ekvdump: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="ekvdump", description="Decode an elastickv snapshot into a plain directory tree.",
        epilog=EXIT_HELP, formatter_class=formatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"ekvdump {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    decode = commands.add_parser(
        "decode", help="write a dump of SNAPSHOT into the folder OUT",
        description="Write a dump of SNAPSHOT into the folder OUT, which is absent or empty.",
        epilog=DECODE_HELP, formatter_class=formatter,
    )  # fmt: skip
    decode.add_argument("snapshot", metavar="SNAPSHOT", help="the .fsm file")
    decode.add_argument("out", metavar="OUT", help="the folder to write, absent or empty")
    decode.add_argument("--db", type=int, default=0, metavar="N", help="database index in the dump (default 0)")
    decode.add_argument(
        "--only", type=_only, metavar="TYPES",
        help="comma-separated, of strings and hll: show these and call that complete",
    )  # fmt: skip
    decode.add_argument("--quiet", action="store_true", help="print nothing but refusals")
    decode.add_argument("--no-sync", action="store_true", help="do not flush to disk before CHECKSUMS appears")
    decode.add_argument("--cluster-id", metavar="ID", help="for MANIFEST.json")
    decode.add_argument("--elastickv-version", metavar="VERSION", help="for MANIFEST.json")
    decode.add_argument(
        "--wall-time", type=_wall_time, metavar="TIME",
        help="RFC 3339 UTC, for MANIFEST.json; the time of the run if not given",
    )  # fmt: skip
    return parser


def _only(text: str) -> frozenset[str]:
    from ekvdump.decode import SELECTABLE

    wanted = frozenset(text.split(","))
    if not wanted <= set(SELECTABLE):
        raise argparse.ArgumentTypeError(f"{text!r}: one or more of {', '.join(SELECTABLE)}")
    return wanted


def _wall_time(text: str) -> str:
    from ekvdump.manifest import is_utc_time

    if not is_utc_time(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no RFC 3339 time in UTC, such as 2026-08-22T12:00:00Z")
    return text


def _decode(options: argparse.Namespace) -> int:
    from ekvdump.decode import Options, decode
    from ekvdump.manifest import Provenance

    outcome = decode(
        options.snapshot,
        options.out,
        Options(options.db, options.only, not options.no_sync),
        Provenance(
            options.snapshot,
            wall_time=options.wall_time,
            cluster_id=options.cluster_id,
            elastickv_version=options.elastickv_version,
        ),
    )
    if not options.quiet:
        from rich.console import Console

        _print_summary(outcome, options.out, Console())
    return outcome.exit_status


def _print_summary(outcome: Outcome, out: str, console: "Console") -> None:
    """Print what was shown, what was not and why."""
    from rich.table import Table

    counters = outcome.counters
    table = Table("entries", "count", title_justify="left")
    table.columns[1].justify = "right"
    for name, count in counters.entries.items():
        if count:
            table.add_row(name, str(count))
    table.add_section()
    table.add_row("all", str(sum(counters.entries.values())))
    console.print(table)
    for title, group in (("strings", counters.strings), ("HLLs", counters.hlls), ("TTL rows", counters.ttls)):
        words = ", ".join(f"{count} {name}" for name, count in group.items() if count)
        if words:
            console.print(f"{title}: {words}", highlight=False)
    for warning in outcome.warnings:
        about = "".join(f" {shlex.quote(each)}" for each in warning.about)
        words = f"warning: {warning.name}: {warning.count}: {warning.detail}{about and ':' + about}"
        console.print(words, highlight=False, markup=False, soft_wrap=True)
    state = "complete" if outcome.complete else "partial: what the warnings name is not shown"
    console.print(f"{out}: {state}", highlight=False, markup=False, soft_wrap=True)
