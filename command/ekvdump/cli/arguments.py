"""The command line of `ekvdump`: commands, options and help texts.

`ekvdump --version` must start fast, so whatever only some options need is imported where it
is needed.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import Any, Final, NoReturn

from ekvdump import __version__
from ekvdump.exit_statuses import EXIT_USAGE

COMMANDS: Final = ("decode", "inspect", "verify", "get", "keys", "resp", "diff", "explain")
KEY_TYPES: Final = ("string", "hll", "hash", "list", "set", "zset", "stream")
"""Types of keys; a test compares them with those of `queries.keys`."""
EXIT_STATUSES: Final = {
    0: "a complete dump",
    1: "something is wrong with the dump",
    2: "a usage error",
    3: "a partial dump: something in the snapshot is not shown",
    4: "the snapshot was refused",
    5: "the directory OUT was refused",
    6: "the disk is full",
    7: "another I/O error",
    130: "interrupted",
}
"""Exit status = its meaning. [OUTC-7]"""


def _exit_help(own: dict[int, str], *others: int) -> str:
    """Return the part of a help text that lists exit statuses: those with words of this command, and others."""
    meanings = own | {status: EXIT_STATUSES[status] for status in (*others, 130)}
    return "exit status:\n" + "".join(f"  {status:<3}  {meanings[status]}\n" for status in sorted(meanings))


NO_KEY: Final = "the key does not exist"
NOT_SHOWN: Final = "something in the snapshot or dump is not shown"
EXITS: Final = {
    "main": _exit_help(
        {
            0: "done: a complete dump, a sound snapshot, a dump that is whole, no difference",
            1: f"something is wrong with the dump, {NO_KEY}, or there are differences",
            3: NOT_SHOWN,
        },
        2, 4, 5, 6, 7,
    ),
    "decode": _exit_help({0: "a complete dump"}, 2, 3, 4, 5, 6, 7),
    "inspect": _exit_help({0: "the snapshot is sound"}, 2, 4, 6, 7),
    "verify": _exit_help({0: "the dump is whole"}, 1, 2, 5, 6, 7),
    "get": _exit_help(
        {0: "the value was printed", 1: f"{NO_KEY}, or something is wrong with the dump"}, 2, 4, 5, 6, 7
    ),
    "keys": _exit_help({0: "all keys were listed", 3: NOT_SHOWN}, 1, 2, 4, 5, 6, 7),
    "resp": _exit_help(
        {0: "all keys were sent", 3: "some keys were not sent: see standard error"}, 1, 2, 4, 5, 6, 7
    ),
    "diff": _exit_help(
        {
            0: "no difference",
            1: "there are differences, or something is wrong with a dump",
            3: "no difference, but something could not be compared",
        },
        2, 4, 5, 6, 7,
    ),
    "explain": _exit_help(
        {0: "the snapshot is sound, or the rule was found", 1: "nothing was ever stored under the key"}, 2, 4, 6, 7
    ),
}  # fmt: skip
"""Command = its exit statuses, for its help text."""

MAIN_HELP: Final = f"""\
examples:
  ekvdump inspect 0000000000000119.fsm           what is in there?
  ekvdump decode 0000000000000119.fsm dump       write it out
  ekvdump verify dump                            is it still whole?
  ekvdump keys 0000000000000119.fsm 'user:*'     which keys are there? (of a snapshot, or of a dump)
  ekvdump get 0000000000000119.fsm user:42       what is the value of one?
  ekvdump resp 0000000000000119.fsm | redis-cli --pipe
  ekvdump diff 0000000000000119.fsm dump         how do two of them differ?
  ekvdump explain --key k 0000000000000119.fsm   what is stored under a key?

shell completion:
  ekvdump --print-completion bash > /etc/bash_completion.d/ekvdump

{EXITS["main"]}"""

DECODE_HELP: Final = f"""\
examples:
  ekvdump decode 0000000000000119.fsm dump
  ekvdump decode --only strings,hll --db 3 --into-existing 0000000000000119.fsm dump
  (cd dump && sha256sum -c CHECKSUMS)

{EXITS["decode"]}"""

INSPECT_HELP: Final = f"""\
example:
  ekvdump inspect --json 0000000000000119.fsm | jq .entries

{EXITS["inspect"]}"""

EXPLAIN_HELP: Final = f"""\
examples:
  ekvdump explain --key user:42 0000000000000119.fsm   its versions, and what becomes of it
  ekvdump explain --offset 80 0000000000000119.fsm     the entry that a message names
  ekvdump explain ENVL-5                               the rule that a message names

{EXITS["explain"]}"""

KEY_HELP: Final = r"""
A key is written as it is. One that is not printable, or that begins with a double quote or a dash, is
written as redis-cli shows it, which `ekvdump keys` prints ready to be pasted: '"a\x00b"'.
"""

GET_HELP: Final = f"""\
examples:
  ekvdump get 0000000000000119.fsm user:42 > user.bin
  ekvdump get --json dump '"a\\x00b"'
{KEY_HELP}
{EXITS["get"]}"""

KEYS_HELP: Final = f"""\
examples:
  ekvdump keys 0000000000000119.fsm
  ekvdump keys --type hll --prefix page: dump
  ekvdump keys --null dump | xargs -0 -n 1 ekvdump get dump
{KEY_HELP}
{EXITS["keys"]}"""

RESP_HELP: Final = f"""\
examples:
  ekvdump resp 0000000000000119.fsm | redis-cli --pipe
  ekvdump resp --nx --prefix user: dump | redis-cli -h 10.0.0.7 --pipe

The server has to be Redis 6.2 or newer, or Valkey. Of a HyperLogLog the members are sent, since the store keeps them
as a set; with --nx they are collected under a temporary key, `ekvdump:restoring:` and a hash, which is renamed.
SELECT is sent for --select, for --db, and for a dump of another database than 0; without it, `redis-cli -n N` chooses.
What was not sent is counted on standard error; in a pipe, `set -o pipefail` keeps the exit status.

{EXITS["resp"]}"""

DIFF_HELP: Final = f"""\
examples:
  ekvdump diff node1.fsm node2.fsm       two replicas at one index have no difference
  ekvdump diff 0000000000000119.fsm dump

{EXITS["diff"]}"""

VERIFY_HELP: Final = f"""\
example:
  ekvdump verify dump

{EXITS["verify"]}"""


class _Parser(argparse.ArgumentParser):
    """A parser that also prints a usage error as a JSON object, if the command line contains `--json`."""

    wants_json = False

    def _print_message(self, message: str, file: Any = None) -> None:
        # Help that cannot be printed is a failure; a usage error is one already. Versions of argparse differ here.
        with nullcontext() if file is sys.stdout else suppress(OSError):
            file.write(message)

    def error(self, message: str) -> NoReturn:
        """Print the usage error and exit."""
        if self.wants_json:
            from ekvdump.cli.json_output import print_json, render_envelope

            print_json(render_envelope(None, EXIT_USAGE) | {"usage": message})
        super().error(message)


def parse_arguments(words: list[str]) -> argparse.Namespace:
    """Parse the command line. Raises `SystemExit` when help or a usage error has been printed."""
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    parser = _parser(wants_json="--json" in words)
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        parser.error(_no_command(words[0]))
    options, surplus = parser.parse_known_args(words)
    if surplus:
        _refuse_surplus(parser, options.command, surplus)
    options.words = words
    return options


def _refuse_surplus(parser: argparse.ArgumentParser, name: str, surplus: list[str]) -> NoReturn:
    """Print a usage error of the command itself about arguments that it does not take, and exit."""
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    command: argparse.ArgumentParser = commands.choices[name]
    option = surplus[0].partition("=")[0]
    if not option.startswith("-"):
        command.error(f"an argument too many: {surplus[0]!r}")
    command.error(f"{option} is not an option of {name}: {_suggestion(option, list(command._option_string_actions))}")


def _no_command(word: str) -> str:
    """Return the message for a first word that is not a command."""
    import os
    import shlex

    if os.path.isfile(word):
        shown = shlex.quote(word)
        return f"{shown} is not a command: say `ekvdump inspect {shown}`, or `ekvdump decode {shown} OUT`"
    return f"{word!r} is not a command: {_suggestion(word, COMMANDS)}"


def _suggestion(word: str, known: Sequence[str]) -> str:
    """Return the known word that is meant most likely, or all of them."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known[:-1])} and {known[-1]}"


def _parser(*, wants_json: bool) -> argparse.ArgumentParser:
    _Parser.wants_json = wants_json
    formatter = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="ekvdump",
        description="Turn an elastickv snapshot into a plain directory, look into either, and restore keys from it.",
        epilog=MAIN_HELP,
        formatter_class=formatter,
    )
    parser.add_argument("-V", "--version", action=_PrintVersion, nargs=0, help="print the version and exit")
    parser.add_argument(
        "--print-completion", action=_PrintCompletion, metavar="SHELL", help="bash, zsh, tcsh, fish or powershell"
    )
    # With `prog` given, the library need not format a usage line to find it.
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", prog=parser.prog)

    def add(name: str, words: str, epilog: str, *, json: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=words[0].lower() + words[1:], description=f"{words}.", epilog=epilog, formatter_class=formatter
        )
        command.set_defaults(json=False)
        if json:
            command.add_argument("--json", action="store_true", help="JSON on stdout")
        command.add_argument("--quiet", action="store_true", help="print errors only, show no progress")
        return command

    decode = add("decode", "Write a dump of SNAPSHOT into the directory OUT", DECODE_HELP)
    _add_path(decode, "snapshot", "the .fsm file", "file")
    _add_path(decode, "out", "the directory to write: absent or empty, unless --into-existing", "dir")
    decode.add_argument(
        "--db",
        type=_database_index,
        default=0,
        metavar="N",
        help="database index in the dump (default 0; a negative one counts as 0)",
    )
    decode.add_argument(
        "--only",
        type=_only,
        metavar="TYPES",
        help="comma-separated, of strings, hll, hashes, lists, sets, zsets and streams: show only these; the dump is "
        "complete without the others",
    )
    part = decode.add_mutually_exclusive_group()
    part.add_argument("--key", type=_key, metavar="KEY", help="write this key alone; MANIFEST.json says so")
    part.add_argument(
        "--prefix", type=_key, metavar="P", help="write the keys that begin like this alone; MANIFEST.json says so"
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

    inspect = add("inspect", "Say what is in SNAPSHOT, and write nothing", INSPECT_HELP)
    _add_path(inspect, "snapshot", "the .fsm file", "file")

    verify = add("verify", "Compare the dump in the directory OUT with what its own files say", VERIFY_HELP)
    _add_path(verify, "out", "the directory that holds the dump", "dir")

    get = add("get", "Print the value of KEY, as it is", GET_HELP)
    _add_path(get, "source", "a snapshot, or the directory of a dump", "file")
    get.add_argument("key", metavar="KEY", type=_key, help="the user key")

    keys = add("keys", "List the keys of SOURCE: type, size in bytes, expiry, key", KEYS_HELP)
    _add_path(keys, "source", "a snapshot, or the directory of a dump", "file")
    keys.add_argument("glob", metavar="GLOB", nargs="?", type=_key, help="a pattern as for KEYS in Redis: * ? [a-z]")
    keys.add_argument(
        "--null", action="store_true", help="print only the keys, each followed by NUL, in the form that `get` takes"
    )

    resp = add("resp", "Print the Redis commands that restore the keys of SOURCE", RESP_HELP, json=False)
    _add_path(resp, "source", "a snapshot, or the directory of a dump", "file")
    resp.add_argument(
        "--expired",
        choices=("skip", "send"),
        default="skip",
        help="what to do with keys whose expiry has passed by the clock of this machine (default skip)",
    )
    resp.add_argument(
        "--select",
        type=_database_index,
        metavar="N",
        help="database index in the server, if not that of the dump",
    )
    there = resp.add_mutually_exclusive_group()
    there.add_argument("--replace", action="store_true", help="replace keys that the server has (the default)")
    there.add_argument("--nx", action="store_true", help="leave keys that the server has as they are")

    diff = add("diff", "Compare the keys of A and B", DIFF_HELP)
    for name in ("a", "b"):
        _add_path(diff, name, "a snapshot, or the directory of a dump", "file")

    for command in (get, keys, resp, diff):
        command.add_argument(
            "--type", choices=KEY_TYPES, metavar="TYPE", help=f"keys of this type only: {', '.join(KEY_TYPES)}"
        )
        command.add_argument(
            "--no-verify", action="store_true", help="read a dump without comparing it with its CHECKSUMS"
        )
        command.add_argument(
            "--db",
            type=_database_index,
            metavar="N",
            help="database index: of a dump, which one is read (default: the only one)"
            + ("; SELECT is sent for it, unless --select" if command is resp else ""),
        )
    for command in (resp, diff):
        command.add_argument("--key", type=_key, metavar="KEY", help="this key only")
    for command in (keys, resp, diff):
        command.add_argument("--prefix", type=_key, default=b"", metavar="P", help="keys that begin like this only")

    explain = commands.add_parser(
        "explain",
        help="show the bytes of SNAPSHOT with their meaning, or a rule of the format",
        description="Show the bytes of SNAPSHOT with their meaning, or a rule of the format.",
        epilog=EXPLAIN_HELP,
        formatter_class=formatter,
    )
    explain.set_defaults(json=False)
    explain.add_argument("--quiet", action="store_true", help="show no progress")
    _add_path(explain, "snapshot", "the .fsm file, or the ID of a clause", "file")
    what = explain.add_mutually_exclusive_group()
    what.add_argument("--key", metavar="KEY", type=_key, help="the versions of this user key, and what becomes of it")
    what.add_argument("--offset", type=_offset, metavar="N", help="the entry that this byte is in, from 0")

    for command in (decode, verify):
        command.add_argument(
            "--by-path", action="store_true", help="use paths as on a platform without directory handles (for tests)"
        )
    return parser


def _add_path(parser: argparse.ArgumentParser, name: str, words: str, kind: str) -> None:
    argument = parser.add_argument(name, metavar=name.upper(), help=words, type=_snapshot if kind == "file" else str)
    # What shell completion offers.
    argument.complete = {"bash": f"_shtab_compgen_{kind}s", "zsh": "_files"}  # type: ignore[attr-defined]


class _PrintVersion(argparse.Action):
    """Prints the version. The action of argparse would load the formatter of help texts first."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        parser._print_message(f"ekvdump {__version__}\n", sys.stdout)
        parser.exit()


class _PrintCompletion(argparse.Action):
    """Prints a completion script."""

    def __call__(self, parser: argparse.ArgumentParser, _: object, shell: object, __: object = None) -> None:
        try:
            import shtab
        except ModuleNotFoundError:
            parser.error("--print-completion: install ekvdump[terminal]")

        if shell not in shtab.SUPPORTED_SHELLS:
            parser.error(f"no completion for {shell!r}: one of {', '.join(shtab.SUPPORTED_SHELLS)}")
        print(shtab.complete(parser, shell=str(shell)))
        parser.exit()


def _database_index(text: str) -> int:
    from ekvformat.tree import MAX_DATABASE_INDEX, decode_database_index

    try:
        return decode_database_index(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}: ASCII digits, at most {MAX_DATABASE_INDEX}") from error


def _offset(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes")
    return int(text)


def _key(text: str) -> bytes:
    from ekvdump.queries.notation import decode_word

    try:
        return decode_word(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not a key as redis-cli shows it: {error}") from error


def _only(text: str) -> frozenset[str]:
    from ekvformat.tree import SELECTABLE

    wanted = frozenset(text.split(","))
    if unknown := sorted(wanted - set(SELECTABLE)):
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not a type: {_suggestion(unknown[0], SELECTABLE)}")
    return wanted


def _snapshot(text: str) -> str:
    import os

    if text == "-" and not os.path.lexists(text):
        raise argparse.ArgumentTypeError("a snapshot has to be a file, because it is read twice; - is not one")
    return text


def _wall_time(text: str) -> str:
    from ekvformat.manifest import is_utc_time

    if not is_utc_time(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an RFC 3339 time in UTC, such as 2026-08-22T12:00:00Z")
    return text
