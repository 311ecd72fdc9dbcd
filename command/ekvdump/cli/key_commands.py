"""The commands that read single keys of a snapshot or dump: get, keys, resp and diff.

They print while they read, so `moment.ending` is set from the first line on: an interrupt
or a reader that closes the pipe ends the command, and nothing more is printed.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from ekvdump.cli.commands import Ending, Moment, UsageError, print_error, progress_of
from ekvdump.cli.json_output import print_json, render_envelope, render_key, render_time, text_of_path
from ekvdump.cli.text import number_of, printable_path
from ekvdump.exit_statuses import EXIT_FINDINGS, EXIT_PARTIAL
from ekvdump.queries.differences import ADDED, EXPIRY, KINDS, REMOVED, VALUE, Difference, iter_differences
from ekvdump.queries.dump_keys import DatabaseError, DumpKeys
from ekvdump.queries.glob import matcher_of
from ekvdump.queries.keys import TYPES, Key, KeySource, Omission, Selection
from ekvdump.queries.notation import shell_word_of, word_of
from ekvdump.queries.resp import NOT_SENT, Restore, select
from ekvdump.queries.snapshot_keys import SnapshotKeys

EXIT_DIFFERENT: Final = EXIT_FINDINGS
"""`diff` found differences, or `get` no such key."""
WORDS: Final = {ADDED: "only in B", REMOVED: "only in A", VALUE: "other value", EXPIRY: "other expiry"}
"""Kind of a difference, in words."""
BATCH_SIZE: Final = 256
"""Lines that are printed at once."""


def open_source(options: argparse.Namespace, path: str, *, verify: bool | None = None) -> SnapshotKeys | DumpKeys:
    """Open a snapshot, or a dump if `path` is a directory. Raises a `Fault`, a `Finding` or `UsageError`."""
    options.opened = path  # for messages about it
    with progress_of(options) as progress:
        if os.path.isdir(path):
            verify = not options.no_verify if verify is None else verify
            try:
                return DumpKeys(path, options.db, progress, verify=verify)
            except DatabaseError as error:
                raise UsageError(f"{printable_path(path)}: {error}") from error
        return SnapshotKeys(path, progress)


def selection_of(options: argparse.Namespace) -> Selection:
    """Return which keys the caller wants."""
    pattern, key = getattr(options, "glob", None), getattr(options, "key", None)
    matches = None if pattern is None else matcher_of(pattern)
    if key is not None:
        matches = key.__eq__
    return Selection(frozenset(TYPES if options.type is None else (options.type,)), options.prefix, matches)


# ---- get ----


def get(options: argparse.Namespace, moment: Moment) -> Ending:
    """Print the value of one key."""
    with open_source(options, options.source, verify=False) as source:
        if isinstance(source, DumpKeys) and not options.no_verify:
            source.check(options.key)
        key = source.find(options.key, options.type)
        if key is None:
            return _no_key(options, source)
        source.check_unchanged()
        if options.json:
            rendered = render_envelope("get", 0) | {"source": text_of_path(options.source), "key": render_key(key)}
            return Ending(0, partial(print_json, rendered))
        moment.ending = Ending(0)
        for piece in key.iter_pieces():
            sys.stdout.buffer.write(piece)
        moment.ending = None
        source.check_unchanged()
    return Ending(0)


def _no_key(options: argparse.Namespace, source: KeySource) -> Ending:
    what = "key" if options.type is None else {"hll": "HLL"}.get(options.type, options.type)
    words = f"{printable_path(options.source)} holds no {what} {shell_word_of(options.key)}"
    hidden = source.omissions()
    if source.is_part:
        words += "; the dump is a part of a store, as `outcome` in MANIFEST.json says"
    if hidden:
        words += f"; not shown: {_words_of(hidden)}"
    rendered = render_envelope("get", EXIT_DIFFERENT) | {"source": text_of_path(options.source), "key": None}

    def print_answer() -> None:
        print_error(words)
        if options.json:
            print_json(rendered)

    return Ending(EXIT_DIFFERENT, print_answer)


# ---- keys ----


def keys(options: argparse.Namespace, moment: Moment) -> Ending:
    """List keys."""
    if options.null and options.json:
        raise UsageError("--null and --json exclude each other")
    selection = selection_of(options)
    counts: Counter[str] = Counter()
    with open_source(options, options.source) as source:
        moment.ending = Ending(0)
        render = _json_line if options.json else _null_line if options.null else _text_line
        write = sys.stdout.buffer.write
        batch: list[bytes] = []
        for key in source.iter_keys(selection):
            counts[key.type] += 1
            batch.append(render(key))
            if len(batch) == BATCH_SIZE:
                write(b"".join(batch))
                batch.clear()
        write(b"".join(batch))
        moment.ending = None
        source.check_unchanged()
        omitted = wanted_omissions(source, options)
    exit_status = EXIT_PARTIAL if omitted else 0
    rendered = {"source": text_of_path(options.source), "counts": {type_: counts[type_] for type_ in TYPES}}
    return Ending(exit_status, partial(_print_end, options, "keys", exit_status, rendered, omitted))


def _json_line(key: Key) -> bytes:
    import json

    return json.dumps(render_key(key)).encode() + b"\n"


def _null_line(key: Key) -> bytes:
    return os.fsencode(word_of(key.user_key)) + b"\0"


def _text_line(key: Key) -> bytes:
    expiry = "-" if key.expiry_ms is None else render_time(key.expiry_ms)
    return f"{key.type:<6} {key.size:>12} {expiry:<24} {shell_word_of(key.user_key)}\n".encode()


# ---- resp ----


def resp(options: argparse.Namespace, moment: Moment) -> Ending:
    """Print the commands that restore keys."""
    if sys.stdout.isatty():
        raise UsageError("this is not for a terminal: pipe it into redis-cli --pipe, or redirect it into a file")
    selection = selection_of(options)
    now_ms = time.time_ns() // 1_000_000 if options.expired == "skip" else None
    with open_source(options, options.source) as source:
        restore = Restore(source, selection, nx=options.nx, now_ms=now_ms)
        moment.ending = Ending(0)
        write = sys.stdout.buffer.write
        database = source.database if isinstance(source, DumpKeys) else options.db
        if options.select is not None:
            write(select(options.select))
        elif options.db is not None or database:
            write(select(database or 0))
        for piece in restore.iter_commands():
            write(piece)
        sys.stdout.buffer.flush()
        moment.ending = None
        source.check_unchanged()
        omitted = wanted_omissions(source, options)
    exit_status = EXIT_PARTIAL if omitted or any(restore.counts[fate] for fate in NOT_SENT) else 0

    def print_answer() -> None:
        # Standard output is for the server.
        if not options.quiet:
            done = (f"{number_of(count, noun)} {words}" for (noun, words), count in restore.counts.items())
            print_error("; ".join(done) or "no key sent")
        _print_omissions(options, omitted)

    return Ending(exit_status, print_answer)


# ---- diff ----


def diff(options: argparse.Namespace, moment: Moment) -> Ending:
    """Print how two sources differ."""
    selection = selection_of(options)
    counts = {type_: dict.fromkeys(KINDS, 0) for type_ in TYPES}
    with open_source(options, options.a) as first, open_source(options, options.b) as second:
        moment.ending = Ending(EXIT_DIFFERENT)
        for difference in iter_differences(first, second, selection):
            counts[difference.key.type][difference.kind] += 1
            if options.json:
                print_json(_rendered_difference(difference))
            elif not options.quiet:
                print(_text_of_difference(difference))
        moment.ending = None
        omitted: list[Omission] = []
        for name, source in (("A", first), ("B", second)):
            source.check_unchanged()
            omitted += [each._replace(where=f"in {name}, ") for each in wanted_omissions(source, options)]
            if source.is_part:
                omitted.append(Omission("part", 1, "", "the dump is a part of a store", f"in {name}, "))
    is_different = any(count for group in counts.values() for count in group.values())
    exit_status = EXIT_DIFFERENT if is_different else EXIT_PARTIAL if omitted else 0
    rendered = {"a": text_of_path(options.a), "b": text_of_path(options.b), "counts": counts}
    end = partial(_print_end, options, "diff", exit_status, rendered, omitted)
    if options.json or options.quiet:
        return Ending(exit_status, end)

    def print_answer() -> None:
        for type_, group in counts.items():
            if any(group.values()):
                print(f"{type_}: " + ", ".join(f"{count} {WORDS[kind]}" for kind, count in group.items() if count))
        if not is_different:
            print("no difference" + (" in what can be shown" if omitted else ""))
        end()

    return Ending(exit_status, print_answer)


def _text_of_difference(difference: Difference) -> str:
    key, before, after = difference.key, difference.before, difference.after
    line = f"{WORDS[difference.kind]:<12} {key.type:<6} {shell_word_of(key.user_key)}"
    if before is None or after is None:
        return line
    changes = [f"{before.size} -> {after.size} bytes"] if before.size != after.size else []
    if before.expiry_ms != after.expiry_ms:
        changes.append(
            " -> ".join("no expiry" if ms is None else render_time(ms) for ms in (before.expiry_ms, after.expiry_ms))
        )
    return f"{line}  {', '.join(changes)}".rstrip()


def _rendered_difference(difference: Difference) -> dict[str, Any]:
    sides = {"before": difference.before, "after": difference.after}
    rendered = {
        side: None if key is None else {"size": key.size, "expire_at_ms": key.expiry_ms} for side, key in sides.items()
    }
    key = render_key(difference.key)
    return {"difference": difference.kind, **{name: key[name] for name in ("key", "key_base64url", "type")}, **rendered}


# ---- how they end ----


def wanted_omissions(source: KeySource, options: argparse.Namespace) -> list[Omission]:
    """Return the omissions that the caller cares about: one who names a type wants no other. [COMP-1]"""
    omitted = source.omissions()
    if options.type is None:
        return omitted
    return [omission for omission in omitted if omission.name in ("unreadable-value", "partial-dump")]


def _print_end(
    options: argparse.Namespace, command: str, exit_status: int, rendered: dict[str, Any], omitted: Sequence[Omission]
) -> None:
    if options.json:
        print_json(
            render_envelope(command, exit_status)
            | rendered
            | {"omitted": [{"name": each.name, "count": each.count, "about": _about(each)} for each in omitted]}
        )
    _print_omissions(options, omitted)


def _print_omissions(options: argparse.Namespace, omitted: Sequence[Omission]) -> None:
    if omitted and not options.quiet:
        done = "compared" if options.command == "diff" else "sent" if options.command == "resp" else "shown"
        print_error(f"not {done}: {_words_of(omitted)}")


def _words_of(omitted: Sequence[Omission]) -> str:
    return "; ".join(map(_about, omitted))


def _about(omission: Omission) -> str:
    counted = f"{number_of(omission.count, omission.noun)} " if omission.noun else ""
    return f"{omission.where}{counted}{omission.about}"
