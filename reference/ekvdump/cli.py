"""The command `ekvdump`. Exit statuses are OUTC's."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, NoReturn, TextIO

from ekvdump import __version__

if TYPE_CHECKING:
    from rich.console import Console

    from ekvdump.conventions import Progress
    from ekvdump.outcomes import Fault

EXIT_USAGE: Final = 2
"""As `outcomes.EXIT_USAGE`, which takes longer to load than `--version` to answer."""
MAX_LISTED_FINDINGS: Final = 1000
"""Findings that the object of `verify` holds; all of them are counted, and printed without `--json`."""

EXIT_HELP: Final = """\
exit status:
  0  decode: a complete dump; inspect: a sound snapshot; verify: nothing found
  1  verify found something
  2  usage
  3  a partial dump: something in the snapshot is not shown
  4  the snapshot was refused
  5  the output folder was refused
  6  disk full
  7  other I/O
  130  interrupted
"""

MAIN_HELP: Final = f"""\
examples:
  ekvdump inspect 0000000000000119.fsm       what is in there?
  ekvdump decode 0000000000000119.fsm dump   write it out
  ekvdump verify dump                        is it still whole?

shell completion:
  ekvdump --print-completion bash > /etc/bash_completion.d/ekvdump

{EXIT_HELP}"""

DECODE_HELP: Final = f"""\
examples:
  ekvdump decode 0000000000000119.fsm dump
  ekvdump decode --only strings,hll --db 3 --into-existing 0000000000000119.fsm dump
  (cd dump && sha256sum -c CHECKSUMS)

{EXIT_HELP}"""

INSPECT_HELP: Final = f"""\
example:
  ekvdump inspect --json 0000000000000119.fsm | jq .entries

{EXIT_HELP}"""

VERIFY_HELP: Final = f"""\
example:
  ekvdump verify dump

{EXIT_HELP}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status. [OUTC-6]"""
    _prepare_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    options: argparse.Namespace | None = None
    try:
        options = _parser(wants_json="--json" in words).parse_args(words)
        return _run(options)
    except SystemExit as end:
        return int(end.code or 0)
    except BrokenPipeError:
        # Whoever read our output has seen enough. What was to be written to disk is written.
        _silence(sys.stdout)
        return getattr(options, "exit_status", 0)


def _run(options: argparse.Namespace) -> int:
    from ekvdump.outcomes import EXIT_INTERRUPTED, Fault, Interrupted

    options.exit_status = 0
    try:
        with _signals_raise(Interrupted), _progress(options) as progress:
            status: int = options.run(options, progress)
        return status
    except Fault as fault:
        options.exit_status = fault.exit_status
        _print_faults(fault, options)
        if options.json:
            _print_json(_failure(options, fault.exit_status, (fault, *fault.also), is_touched=fault.is_out_touched))
        return fault.exit_status
    except Interrupted as end:
        options.exit_status = EXIT_INTERRUPTED
        _print_error("interrupted")
        _print_state_of_out(options, is_touched=end.is_out_touched)
        if options.json:
            _print_json(_failure(options, EXIT_INTERRUPTED, (), is_touched=end.is_out_touched))
        return EXIT_INTERRUPTED


@contextmanager
def _signals_raise(interrupted: type[BaseException]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the run once; what comes later does not disturb the cleaning up. [TREE-39]"""

    def end(*_: object) -> NoReturn:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise interrupted

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, action in before.items():
        # A caller that wants a signal ignored, as `nohup` does, is obeyed.
        if action != signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


# ---- commands ----


def _decode(options: argparse.Namespace, progress: "Progress | None") -> int:
    from ekvdump.decode import decode
    from ekvdump.folders import HAS_HANDLES
    from ekvdump.manifest import Provenance
    from ekvdump.outputs import Options

    wanted = Options(
        database=options.db,
        only=options.only,
        salvage=options.salvage,
        into_existing=options.into_existing,
        sync=not options.no_sync,
        handles=HAS_HANDLES and not options.by_path,
    )
    provenance = Provenance(
        options.snapshot,
        wall_time=options.wall_time,
        cluster_id=options.cluster_id,
        elastickv_version=options.elastickv_version,
    )
    outcome = decode(options.snapshot, options.out, wanted, provenance, progress)
    options.exit_status = outcome.exit_status
    if options.json:
        from ekvdump.reports import render_envelope, render_outcome, text_of_path

        _print_json(
            render_envelope("decode", outcome.exit_status)
            | {"snapshot": text_of_path(options.snapshot), "out": text_of_path(options.out), "out_state": "sealed"}
            | render_outcome(outcome)
        )
    elif not options.quiet:
        from ekvdump.reports import print_outcome

        print_outcome(outcome, options.out, _console(sys.stdout))
    return outcome.exit_status


def _inspect(options: argparse.Namespace, progress: "Progress | None") -> int:
    from ekvdump.inspection import inspect

    result = inspect(options.snapshot, progress)
    faults = [] if result.fault is None else [result.fault]
    options.exit_status = faults[0].exit_status if faults else 0
    if options.json:
        from ekvdump.reports import render_envelope, render_inspection, text_of_path

        _print_json(
            render_envelope("inspect", options.exit_status, faults)
            | {"snapshot": text_of_path(options.snapshot)}
            | render_inspection(result)
        )
    elif not options.quiet:
        from ekvdump.reports import print_inspection

        print_inspection(result, _console(sys.stdout))
    if result.fault is not None:
        _print_faults(result.fault, options)
    return int(options.exit_status)


def _verify(options: argparse.Namespace, progress: "Progress | None") -> int:
    from ekvdump.folders import HAS_HANDLES
    from ekvdump.outcomes import EXIT_FINDINGS, Finding
    from ekvdump.verification import Verification

    listed: list[Finding] = []

    def report(finding: Finding) -> None:
        if options.json and len(listed) < MAX_LISTED_FINDINGS:
            listed.append(finding)
        elif not options.json and not options.quiet:
            print(finding)

    verification = Verification(options.out, report, progress, handles=HAS_HANDLES and not options.by_path)
    verification.run()
    options.exit_status = EXIT_FINDINGS if verification.counts else 0
    complete = verification.says_complete
    if options.json:
        from ekvdump.reports import render_envelope, render_fault, text_of_path

        _print_json(
            render_envelope("verify", options.exit_status)
            | {
                "out": text_of_path(options.out),
                "files": verification.file_count,
                "complete": complete,
                "counts": dict(sorted(verification.counts.items())),
                "findings": [render_fault(finding) for finding in listed],
            }
        )
    elif not options.quiet:
        from ekvdump.reports import print_verdict

        counts = dict(verification.counts)
        print_verdict(options.out, verification.file_count, counts, complete, _console(sys.stdout))
    return int(options.exit_status)


# ---- what is printed ----


def _failure(
    options: argparse.Namespace, exit_status: int, faults: "Sequence[Fault]", *, is_touched: bool
) -> dict[str, Any]:
    """Render the object of a command that did not come to its end."""
    from ekvdump.reports import render_envelope, render_outcome, text_of_path

    rendered = render_envelope(options.command, exit_status, faults)
    for name in ("snapshot", "out"):
        if hasattr(options, name):
            rendered[name] = text_of_path(getattr(options, name))
    if options.command == "decode":
        rendered |= {"out_state": "unfinished" if is_touched else "untouched"} | render_outcome(None)
    return rendered


def _print_faults(fault: "Fault", options: argparse.Namespace) -> None:
    for each in (fault, *fault.also):
        _print_error(str(each))
    _print_error(fault.advice)
    _print_state_of_out(options, is_touched=fault.is_out_touched)


def _print_state_of_out(options: argparse.Namespace, *, is_touched: bool) -> None:
    """Say what lies in the output folder now, and how to go on."""
    if options.command != "decode":
        return
    from ekvdump.outcomes import printable_path

    out = printable_path(options.out)
    if is_touched:
        _print_error(f"{out} holds an unfinished dump without a seal: remove it, or decode again with --into-existing.")
    else:
        _print_error(f"{out} is as it was.")


def _print_error(words: str) -> None:
    print(f"ekvdump: {words}", file=sys.stderr)


def _print_json(rendered: dict[str, Any]) -> None:
    import json

    print(json.dumps(rendered, ensure_ascii=False), flush=True)


def _console(stream: TextIO) -> "Console":
    from rich.console import Console

    class PlainConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # ours to answer; rich would exit with 1

    return PlainConsole(file=stream, highlight=False)


def _progress(options: argparse.Namespace) -> "AbstractContextManager[Progress | None]":
    """Return what shows progress: something on a terminal, nothing in a pipe."""
    if options.quiet or not sys.stderr.isatty():
        return nullcontext()
    from ekvdump.progress import TerminalProgress

    return TerminalProgress(_console(sys.stderr))


def _prepare_streams() -> None:
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # The caller closed it. Whatever is opened next must not take its place.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):
            # What a terminal cannot show is shown escaped; it is no reason to fail.
            stream.reconfigure(errors="backslashreplace")


def _silence(stream: TextIO) -> None:
    """Let what is still to be flushed at the end go nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


# ---- the command line ----


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are objects too, where the caller wants those."""

    wants_json = False

    def error(self, message: str) -> NoReturn:
        """Print what is wrong with the command line and exit."""
        if self.wants_json:
            from ekvdump.reports import render_envelope

            _print_json(render_envelope(None, EXIT_USAGE) | {"usage": message})
        super().error(message)


def _parser(*, wants_json: bool = False) -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    _Parser.wants_json = wants_json
    formatter = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="ekvdump",
        description="Turn an elastickv snapshot into a plain folder, look into one, or check a dump.",
        epilog=MAIN_HELP,
        formatter_class=formatter,
    )
    parser.add_argument("--version", action="version", version=f"ekvdump {__version__}")
    parser.add_argument("--print-completion", action=_PrintCompletion, metavar="SHELL", help="bash, zsh or tcsh")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(
        name: str, run: Callable[[argparse.Namespace, "Progress | None"], int], words: str, epilog: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=words[0].lower() + words[1:], description=f"{words}.", epilog=epilog, formatter_class=formatter
        )
        command.set_defaults(run=run)
        command.add_argument("--json", action="store_true", help="one JSON object on stdout (spec/output.schema.json)")
        command.add_argument("--quiet", action="store_true", help="print nothing but refusals, show no progress")
        return command

    decode = add("decode", _decode, "Write a dump of SNAPSHOT into the folder OUT", DECODE_HELP)
    _add_path(decode, "snapshot", "the .fsm file", "file")
    _add_path(decode, "out", "the folder to write: absent or empty, unless --into-existing", "directory")
    decode.add_argument("--db", type=int, default=0, metavar="N", help="database index in the dump (default 0)")
    decode.add_argument(
        "--only",
        type=_only,
        metavar="TYPES",
        help="comma-separated, of strings and hll: show these and call that complete",
    )
    decode.add_argument(
        "--salvage", action="store_true", help="list values that no client could read, instead of refusing the snapshot"
    )
    decode.add_argument(
        "--into-existing", action="store_true", help="write into an OUT that holds dumps; stale files are named"
    )
    decode.add_argument("--no-sync", action="store_true", help="do not flush to disk before CHECKSUMS appears")
    decode.add_argument("--cluster-id", metavar="ID", help="for MANIFEST.json")
    decode.add_argument("--elastickv-version", metavar="VERSION", help="for MANIFEST.json")
    decode.add_argument(
        "--wall-time",
        type=_wall_time,
        metavar="TIME",
        help="RFC 3339 UTC, for MANIFEST.json; the time of the run if not given",
    )

    inspect = add("inspect", _inspect, "Say what is in SNAPSHOT, and write nothing", INSPECT_HELP)
    _add_path(inspect, "snapshot", "the .fsm file", "file")

    verify = add("verify", _verify, "Compare the dump in the folder OUT with what its own files say", VERIFY_HELP)
    _add_path(verify, "out", "the folder that holds the dump", "directory")

    for command in (decode, verify):
        command.add_argument(
            "--by-path", action="store_true", help="use paths as on a platform without folder handles (for tests)"
        )
    return parser


def _add_path(parser: argparse.ArgumentParser, name: str, words: str, kind: str) -> None:
    argument = parser.add_argument(name, metavar=name.upper(), help=words)
    # What a completion offers.
    argument.complete = {"bash": f"_shtab_compgen_{kind}s", "zsh": "_files"}  # type: ignore[attr-defined]


class _PrintCompletion(argparse.Action):
    """Prints a completion script."""

    def __call__(self, parser: argparse.ArgumentParser, _: object, shell: object, __: object = None) -> None:
        import shtab

        if shell not in shtab.SUPPORTED_SHELLS:
            parser.error(f"no completion for {shell!r}: one of {', '.join(shtab.SUPPORTED_SHELLS)}")
        print(shtab.complete(parser, shell=str(shell)))
        parser.exit()


def _only(text: str) -> frozenset[str]:
    from ekvdump.outputs import SELECTABLE

    wanted = frozenset(text.split(","))
    if not wanted <= set(SELECTABLE):
        raise argparse.ArgumentTypeError(f"{text!r}: one or more of {', '.join(SELECTABLE)}")
    return wanted


def _wall_time(text: str) -> str:
    from ekvdump.manifest import is_utc_time

    if not is_utc_time(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no RFC 3339 time in UTC, such as 2026-08-22T12:00:00Z")
    return text
