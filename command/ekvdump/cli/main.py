"""The command `ekvdump`. Exit statuses are OUTC's."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn, TextIO

from ekvdump import __version__
from ekvdump.cli.exit_statuses import EXIT_FINDINGS, EXIT_INTERRUPTED, EXIT_IO_ERROR, EXIT_USAGE

if TYPE_CHECKING:
    from rich.console import Console

    from ekvdump.engine.run import Run
    from ekvdump.engine.source import Progress
    from ekvdump.format.outcomes import Fault, Outcome

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a run: a hangup too, as when a terminal or a connection is closed. [TREE-39]"""

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
    """Run the command; return its exit status. [OUTC-6]

    Without `arguments` the process ends with the run, and signals stay ignored. With them, the caller
    has its handlers of signals back; a stream that could not be written to goes nowhere from then on.
    """
    if arguments is None:
        return _main(sys.argv[1:])
    before = _handlers()
    try:
        return _main(list(arguments))
    finally:
        for number, action in before.items():
            if action is not None:  # see `_signals_raise`
                signal.signal(number, action)


def _main(words: list[str]) -> int:
    _prepare_streams()
    end = _End()
    try:
        try:
            with _signals_raise(end):
                try:
                    end.options = _parser(wants_json="--json" in words).parse_args(words)
                    _run(end.options, end)
                except SystemExit as asked:
                    end.exit_status = int(asked.code or 0)  # argparse has printed help, or what is wrong
                # Here a signal still ends the wait for a reader.
                sys.stdout.flush()
        except Interrupted:
            _end_early(end)
            sys.stdout.flush()
    except OSError as error:
        # All that goes to disk has faults of its own, so this is about what is printed. Whoever reads our
        # output may have seen enough; but an answer that could not be given is a failure.
        _silence(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            _print_error(f"cannot print the answer: {error.strerror}")
            end.exit_status = end.exit_status or EXIT_IO_ERROR
    try:
        sys.stderr.flush()
    except OSError:
        _silence(sys.stderr)  # or the interpreter would end with a status of its own
    return end.exit_status


class Interrupted(BaseException):
    """The user or the system wants the run to end. [TREE-39]

    Like every exception that is no `Exception` it passes through what deals with faults.
    """


class _End:
    """How a command ends, as far as that is known; a command can be interrupted at any moment."""

    def __init__(self) -> None:
        self.options: argparse.Namespace | None = None
        self.exit_status = 0
        self.run: Run | None = None
        """The decode under way."""
        self.is_printing = False
        """Whether the answer, or what went wrong, is being printed."""
        self.signals: list[signal.Signals] = []
        """Those of `SIGNALS` that interrupt the run."""
        self.is_interrupted = False

    @property
    def is_near(self) -> bool:
        """Whether a signal is not needed any more, and would only disturb the cleaning up. [TREE-39]"""
        return self.is_interrupted or (self.run is not None and self.run.is_ending)


def _run(options: argparse.Namespace, end: _End) -> None:
    """Run a command, and say what went wrong."""
    from ekvdump.format.outcomes import Fault

    try:
        options.run(options, end)
    except Fault as fault:
        end.exit_status = fault.exit_status
        end.is_printing = True
        faults = (fault, *fault.also)
        for each in faults:
            _print_error(str(each))
        _print_error(fault.advice)
        _print_state_of_out(options, end)
        if options.json:
            _print_json(_failure(options, end, faults))


def _end_early(end: _End) -> None:
    """Say that a run was interrupted, unless it was too late for that."""
    # What had to be cleaned up is: from here on a signal ends the process as it stands.
    for number in end.signals:
        signal.signal(number, signal.SIG_DFL)
    sealed = end.run.sealed_outcome if end.run is not None else None
    if sealed is not None and end.options is not None and not end.is_printing:
        _print_outcome(end.options, end, sealed)
        return
    if end.is_printing or end.options is None:
        # Nobody reads what we print, or not now; more of it would only wait as well.
        # [OUTC-6] If the dump is there, and whole, that is what counts.
        end.exit_status = end.exit_status or (EXIT_INTERRUPTED if sealed is None else sealed.exit_status)
        _silence(sys.stdout)
        _silence(sys.stderr)
        return
    end.exit_status = EXIT_INTERRUPTED
    _print_error("interrupted")
    _print_state_of_out(end.options, end)
    if end.options.json:
        _print_json(_failure(end.options, end, ()))


def _handlers() -> dict[signal.Signals, Any]:
    """Return what each of `SIGNALS` does now."""
    return {number: signal.getsignal(number) for number in SIGNALS}


@contextmanager
def _signals_raise(end: _End) -> Iterator[None]:
    """Let a signal end the run once; what comes later does not disturb the cleaning up. [TREE-39]"""

    def interrupt(*_: object) -> None:
        if not end.is_near:
            end.is_interrupted = True
            raise Interrupted

    def lost(exception: "sys.UnraisableHookArgs") -> None:
        # What is raised while Python throws something away leads nowhere: the next signal is to be heard.
        if isinstance(exception.exc_value, Interrupted):
            end.is_interrupted = False
        else:
            told(exception)

    told, sys.unraisablehook = sys.unraisablehook, lost
    # A signal that the caller wants ignored, as a shell does for what runs in the background, stays ignored;
    # and a handler that is not Python's, which is None, could not be put back.
    end.signals = [number for number, action in _handlers().items() if action not in (signal.SIG_IGN, None)]
    for number in end.signals:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in end.signals:
            signal.signal(number, signal.SIG_IGN)
        sys.unraisablehook = told


# ---- commands ----


def _decode(options: argparse.Namespace, end: _End) -> None:
    from ekvdump.engine.outputs import Options
    from ekvdump.engine.run import Run
    from ekvdump.filesystem.directories import HAS_HANDLES
    from ekvdump.format.manifest import Provenance

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
    with _progress(options) as progress:
        end.run = Run(options.snapshot, options.out, wanted, provenance, progress)
        outcome = end.run.run()
    _print_outcome(options, end, outcome)


def _print_outcome(options: argparse.Namespace, end: _End, outcome: "Outcome") -> None:
    end.exit_status = outcome.exit_status
    end.is_printing = True
    if options.json:
        from ekvdump.cli.json_output import render_envelope, render_outcome, text_of_path

        _print_json(
            render_envelope("decode", outcome.exit_status)
            | {"snapshot": text_of_path(options.snapshot), "out": text_of_path(options.out), "out_state": "sealed"}
            | render_outcome(outcome)
        )
    elif not options.quiet:
        from ekvdump.cli.text import print_outcome
        from ekvdump.format.outcomes import printable_path

        print_outcome(outcome, printable_path(options.out), _say)


def _inspect(options: argparse.Namespace, end: _End) -> None:
    from ekvdump.inspection import inspect

    with _progress(options) as progress:
        result = inspect(options.snapshot, progress)
    end.is_printing = True
    faults = [] if result.fault is None else [result.fault]
    end.exit_status = faults[0].exit_status if faults else 0
    if options.json:
        from ekvdump.cli.json_output import render_envelope, render_inspection, text_of_path

        _print_json(
            render_envelope("inspect", end.exit_status, faults)
            | {"snapshot": text_of_path(options.snapshot)}
            | render_inspection(result)
        )
    elif not options.quiet:
        from ekvdump.cli.text import print_inspection

        print_inspection(result, _say)
    if result.fault is not None:
        _print_error(str(result.fault))
        _print_error(result.fault.advice)


def _verify(options: argparse.Namespace, end: _End) -> None:
    from ekvdump.filesystem.directories import HAS_HANDLES
    from ekvdump.format.outcomes import Finding, printable_path
    from ekvdump.verify.verification import Verification

    listed: list[Finding] = []

    def report(finding: Finding) -> None:
        end.exit_status = EXIT_FINDINGS
        if options.json and len(listed) < MAX_LISTED_FINDINGS:
            listed.append(finding)
        elif not options.json and not options.quiet:
            end.is_printing = True
            print(finding)
            end.is_printing = False

    with _progress(options) as progress:
        verification = Verification(options.out, report, progress, handles=HAS_HANDLES and not options.by_path)
        verification.run()
    end.is_printing = True
    complete = verification.says_complete
    if options.json:
        from ekvdump.cli.json_output import render_envelope, render_fault, text_of_path

        _print_json(
            render_envelope("verify", end.exit_status)
            | {
                "out": text_of_path(options.out),
                "files": verification.file_count,
                "complete": complete,
                "counts": dict(sorted(verification.counts.items())),
                "findings": [render_fault(finding) for finding in listed],
            }
        )
    elif not options.quiet:
        from ekvdump.cli.text import print_verdict

        counts = dict(verification.counts)
        print_verdict(printable_path(options.out), verification.file_count, counts, complete, _say)


# ---- what is printed ----


def _failure(options: argparse.Namespace, end: _End, faults: "Sequence[Fault]") -> dict[str, Any]:
    """Render the object of a command that did not come to its end."""
    from ekvdump.cli.json_output import render_envelope, render_outcome, text_of_path
    from ekvdump.engine.run import UNTOUCHED

    rendered = render_envelope(options.command, end.exit_status, faults)
    for name in ("snapshot", "out"):
        if hasattr(options, name):
            rendered[name] = text_of_path(getattr(options, name))
    if options.command == "decode":
        rendered |= {"out_state": end.run.out_state if end.run else UNTOUCHED} | render_outcome(None)
    return rendered


def _print_state_of_out(options: argparse.Namespace, end: _End) -> None:
    """Say what lies in the output folder now, and how to go on."""
    if options.command != "decode":
        return
    from ekvdump.engine.run import UNTOUCHED
    from ekvdump.format.outcomes import printable_path

    out = printable_path(options.out)
    if end.run is None or end.run.out_state == UNTOUCHED:
        there = os.path.lexists(options.out)
        _print_error(f"{out} is as it was." if there else f"{out} was not created.")
    elif options.into_existing:
        _print_error(f"{out} has no seal now: decode again with --into-existing.")
    else:
        _print_error(f"{out} holds an unfinished dump without a seal: remove it, or decode again with --into-existing.")


def _print_error(words: str) -> None:
    with suppress(OSError):  # there is nowhere left to say it; the exit status does
        print(f"ekvdump: {words}", file=sys.stderr)


def _print_json(rendered: dict[str, Any]) -> None:
    import json

    print(json.dumps(rendered))


def _say(words: str, state: str = "", style: str = "") -> None:
    """Print a line of the answer; `reports.Say`."""
    if state and sys.stdout.isatty():
        from rich.text import Text

        _console(sys.stdout).print(Text.assemble(words, (state, style)), soft_wrap=True)
    else:
        print(words + state)


def _console(stream: TextIO) -> "Console":
    """Return what shows colours and progress; `stream` is a terminal."""
    from rich.console import Console

    return Console(file=stream)


def _progress(options: argparse.Namespace) -> "AbstractContextManager[Progress | None]":
    """Return what shows progress: something on a terminal, nothing in a pipe."""
    if options.quiet or not sys.stderr.isatty():
        return nullcontext()
    from ekvdump.cli.progress import TerminalProgress

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
    with suppress(OSError):  # it is no file, but something of the caller's own
        descriptor = stream.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)


# ---- the command line ----


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are objects too, where the caller wants those."""

    wants_json = False

    def _print_message(self, message: str, file: Any = None) -> None:
        # An answer that cannot be given is a failure, a complaint is none; what the library does differs by version.
        with nullcontext() if file is sys.stdout else suppress(OSError):
            file.write(message)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong with the command line and exit."""
        if self.wants_json:
            from ekvdump.cli.json_output import render_envelope

            _print_json(render_envelope(None, EXIT_USAGE) | {"usage": message})
        super().error(message)


def _parser(*, wants_json: bool) -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    _Parser.wants_json = wants_json
    formatter = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="ekvdump",
        description="Turn an elastickv snapshot into a plain folder, look into one, or check a dump.",
        epilog=MAIN_HELP,
        formatter_class=formatter,
    )
    parser.add_argument("--version", action=_PrintVersion, nargs=0, help="print the version and exit")
    parser.add_argument(
        "--print-completion", action=_PrintCompletion, metavar="SHELL", help="bash, zsh, tcsh, fish or powershell"
    )
    # With `prog` given, the library need not format a usage line to find it.
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", prog=parser.prog)

    def add(
        name: str, run: Callable[[argparse.Namespace, _End], None], words: str, epilog: str
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
    _add_path(decode, "out", "the folder to write: absent or empty, unless --into-existing", "dir")
    decode.add_argument(
        "--db",
        type=int,
        default=0,
        metavar="N",
        help="database index in the dump (default 0; a negative one counts as 0)",
    )
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
        "--into-existing", action="store_true", help="write into an OUT that holds dumps, over files of the same names"
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
    _add_path(verify, "out", "the folder that holds the dump", "dir")

    for command in (decode, verify):
        command.add_argument(
            "--by-path", action="store_true", help="use paths as on a platform without folder handles (for tests)"
        )
    return parser


def _add_path(parser: argparse.ArgumentParser, name: str, words: str, kind: str) -> None:
    argument = parser.add_argument(name, metavar=name.upper(), help=words)
    # What a completion offers.
    argument.complete = {"bash": f"_shtab_compgen_{kind}s", "zsh": "_files"}  # type: ignore[attr-defined]


class _PrintVersion(argparse.Action):
    """Prints the version; the library's own action loads what formats help texts first."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        parser._print_message(f"ekvdump {__version__}\n", sys.stdout)
        parser.exit()


class _PrintCompletion(argparse.Action):
    """Prints a completion script."""

    def __call__(self, parser: argparse.ArgumentParser, _: object, shell: object, __: object = None) -> None:
        import shtab

        if shell not in shtab.SUPPORTED_SHELLS:
            parser.error(f"no completion for {shell!r}: one of {', '.join(shtab.SUPPORTED_SHELLS)}")
        print(shtab.complete(parser, shell=str(shell)))
        parser.exit()


def _only(text: str) -> frozenset[str]:
    from ekvdump.engine.outputs import SELECTABLE

    wanted = frozenset(text.split(","))
    if not wanted <= set(SELECTABLE):
        raise argparse.ArgumentTypeError(f"{text!r}: one or more of {', '.join(SELECTABLE)}")
    return wanted


def _wall_time(text: str) -> str:
    from ekvdump.format.manifest import is_utc_time

    if not is_utc_time(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no RFC 3339 time in UTC, such as 2026-08-22T12:00:00Z")
    return text
