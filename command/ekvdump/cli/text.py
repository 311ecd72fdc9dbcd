"""The text that each command prints: its answer without `--json`, and its faults."""

import os
import shlex
from collections.abc import Iterator
from typing import Protocol

from ekvexplain.pieces import printable
from ekvformat import keys
from ekvformat.completeness import Counters
from ekvformat.outcomes import Fault

from ekvdump.cli.json_output import render_time, version_count
from ekvdump.engine.collection_index import split_storage_key
from ekvdump.engine.outputs import shown_count
from ekvdump.inspection import Inspection
from ekvdump.outcome import Outcome
from ekvdump.verify.manifest import says_part
from ekvdump.verify.verification import Verification

COUNTED_ONE_BY_ONE = ("orphan-ttl", "unreadable-value", "stale-file")
"""Warnings that list the first few of what they count."""
WORDS_OF_TYPES = {
    keys.STRING: ("string", keys.STRING_PREFIX), keys.BARE: ("string", b""), keys.HLL: ("HLL", keys.HLL_PREFIX),
    keys.TTL: ("TTL record of", keys.TTL_PREFIX),
}  # fmt: skip
"""Type = what a user calls it, and what stands before the user key. [KEYS-1]"""
COMPLETE_STYLE = "bold green"
PARTIAL_STYLE = "bold yellow"
REFUSED_STYLE = "bold red"


class Say(Protocol):
    """A function that prints a line."""

    def __call__(self, words: str, state: str = "", style: str = "") -> None:
        """Print `words`, and `state` behind them, which a terminal shows in `style`."""


def print_outcome(outcome: Outcome, out: str, say: Say, *, is_part: bool) -> None:
    """Print the answer of `decode`: what was shown, what was not and why."""
    counters = outcome.counters
    for line in _iter_counts("entries", counters.entries):
        say(line)
    for line in _iter_records(counters):
        say(line)
    print_warnings(outcome, say)
    if is_part and not shown_count(counters):
        say("no key that was wanted is there")
    if outcome.complete:
        say(f"{out}: ", "complete, as the part that it is" if is_part else "complete", COMPLETE_STYLE)
    else:
        reasons = ", ".join(f"{reason.count} {reason.reason} ({reason.about})" for reason in outcome.partial_reasons)
        say(f"{out}: ", f"partial: {reasons}", PARTIAL_STYLE)


def _iter_records(counters: Counters) -> Iterator[str]:
    """Yield a line for each kind of records, if there are any."""
    yield from _words_of_counts("strings: ", counters.strings)
    yield from _words_of_counts("HLLs: ", counters.hlls)
    for type_, group in counters.by_type.items():
        plural = "hashes" if type_ == "hash" else f"{type_}s"
        yield from _words_of_counts(f"{plural}: {counters.collections[type_]} shown; records: ", group)
    yield from _words_of_counts("TTL records: ", counters.ttls)


def _words_of_counts(title: str, counts: dict[str, int]) -> Iterator[str]:
    words = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    if words:
        yield title + words


def print_warnings(outcome: Outcome, say: Say) -> None:
    """Print each warning with its count and its examples."""
    for warning in outcome.warnings:
        about = "".join(f" {printable_path(each)}" for each in warning.about)
        if warning.name in COUNTED_ONE_BY_ONE and warning.count > len(warning.about):
            about += f" and {warning.count - len(warning.about)} more"
        say(f"warning: {warning.name}: {warning.count}: {warning.detail}{about and ':' + about}")


def print_inspection(result: Inspection, say: Say) -> None:
    """Print the answer of `inspect`."""
    first_pass = result.first_pass
    facts = {"size": f"{result.size} bytes", "footer": result.footer}
    if first_pass is not None:
        version, crc = first_pass.start.header_version, first_pass.fsm_crc32c
        facts["header"] = "none" if version is None else f"version {version}"
        facts["footer"] += "" if crc is None else f", CRC-32C {crc:08x}"
        ahead = "by the store's clock, which may run some seconds ahead of the wall clock"
        time = f"{render_time(result.last_commit_ms)}, {ahead}" if result.last_commit_ms else "nothing was committed"
        facts["last commit"] = f"{first_pass.start.last_commit_ts}: {time}"
        none = "none" if result.fault is None else "none so far"
        in_file = none if first_pass.applied_index is None else f"{first_pass.applied_index}"
        in_name = "none" if result.name_index is None else f"{result.name_index} (hexadecimal {result.name_index:x})"
        facts["applied index"] = f"{in_file} in the file, {in_name} in its name"
        facts["versions"] = f"{version_count(result)}, tombstones among them: {result.tombstone_count}"
        expired = ", ".join(f"{count} {name}" for name, count in result.expired.items())
        facts["past expiry"] = f"{expired}: envelopes and TTL records whose expiry had passed at the last commit"
        if result.unreadable_count:
            facts["unreadable"] = f"values that no client could read: {result.unreadable_count}"
        if first_pass.faulty_count:
            is_encrypted = result.fault is not None and result.fault.name == "encrypted"
            what = "encrypted entries" if is_encrypted else "entries whose headers are not sound"
            facts["faulty"] = f"{what}: {first_pass.faulty_count}; not counted below"
    for name, words in facts.items():
        say(f"{name:<14} {words}")
    if first_pass is not None:
        for line in _iter_counts("entries by class", first_pass.counters.entries):
            say(line)
        for line in _iter_counts("entries by prefix", {prefix or "(bare)": n for prefix, n in result.prefixes.items()}):
            say(line)
    path = printable_path(result.path)
    if result.fault is not None:
        above = "" if first_pass is None else "; what stands above is what could be read"
        say(f"{path}: ", f"refused at offset {result.fault.offset}{above}", REFUSED_STYLE)
        return
    unproved = "nothing is wrong, but there is no footer to prove that it is whole"
    words, style = forecast(result)
    say(f"{path}: ", f"{'sound' if result.footer == 'sound' else unproved}; {words}", style)


def forecast(result: Inspection) -> tuple[str, str]:
    """Return how `decode` will end, and the style of these words."""
    counters = result.first_pass.counters if result.first_pass else None
    hidden = {} if counters is None else counters.undecoded | {"unknown": counters.entries["unknown"]}
    if result.unreadable_count:
        values = number_of(result.unreadable_count, "value")
        others = number_of(result.shown_count, "key")
        words = f"decode will refuse it: {values} that no client could read; --salvage shows the other {others}"
        return words, PARTIAL_STYLE
    if any(hidden.values()):
        records = ", ".join(f"{count} {type_}" for type_, count in hidden.items() if count)
        return f"decode will be partial; records that it cannot show: {records}", PARTIAL_STYLE
    return "decode will be complete", COMPLETE_STYLE if result.footer == "sound" else PARTIAL_STYLE


def print_verdict(out: str, verification: Verification, say: Say) -> None:
    """Print the answer of `verify`."""
    files, counts, complete = verification.file_count, verification.counts, verification.says_complete
    is_part = says_part(verification.manifest or {})
    if not verification.is_dump:
        words = "not a dump: it has no MANIFEST.json, CHECKSUMS or redis; nothing in it was looked at"
        say(f"{out}: ", words, REFUSED_STYLE)
        return
    for name, count in sorted(counts.items()):
        say(f"{count} {name}")
    if counts:
        words = f"{number_of(sum(counts.values()), 'finding')} in {number_of(files, 'file')}"
        say(f"{out}: ", words, REFUSED_STYLE)
    else:
        state, style = {
            True: (", whole, and complete" + (", as the part that it is" if is_part else ""), COMPLETE_STYLE),
            False: (", whole, of a dump that is partial: see `outcome` in MANIFEST.json", PARTIAL_STYLE),
            None: (", whole", COMPLETE_STYLE),
        }[complete]
        say(f"{out}: ", f"{number_of(files, 'file')}{state}", style)


def _iter_counts(title: str, counts: dict[str, int]) -> Iterator[str]:
    """Yield a line with the total and a line for each count above 0."""
    yield _count_line(title, sum(counts.values()))
    for name, count in counts.items():
        if count:
            yield _count_line(f"  {name}", count)


def _count_line(name: str, count: int) -> str:
    return f"{name:<24} {count:>14}"


def number_of(count: int, name: str) -> str:
    """Return a count of things in words."""
    plural = "es" if name.endswith("sh") else "s"
    return f"{count} {name}{plural * (count != 1)}"


# ---- faults ----


def text_of_fault(fault: Fault, snapshot: str | None = None) -> str:
    """Return a fault or finding as one line: where, what is wrong, and its name and clause. [OUTC-1]

    `snapshot` is the path of the snapshot, which a fault with an offset alone does not name.
    """
    path = snapshot if fault.path is None and fault.offset is not None else fault.path
    place = [] if path is None else [printable_path(path)]
    place += [] if fault.offset is None else [f"offset {fault.offset}"]
    place += [] if fault.key is None else [text_of_key(fault.key)]
    # The words may quote what lies in a tree or a snapshot: a name must not forge a line or colour a terminal.
    words = printable_words(fault.detail)
    return f"{', '.join(place)}{': ' if place else ''}{words} [{fault.name}, {fault.clause}]"


def text_of_key(storage_key: bytes) -> str:
    """Return a storage key as a user knows it: the type and the user key, if both can be told."""
    type_ = keys.type_of(storage_key)
    if type_ in keys.COLLECTIONS:
        # Of a list, which of two kinds of records this is the size of its body would tell. [TYPE-3]
        place = split_storage_key(storage_key, keys.prefix_of(storage_key), 0)
        if place is not None:
            return f"{type_} {printable(place[1])}"
    if type_ not in WORDS_OF_TYPES:
        return f"key {printable(storage_key)}"
    words, prefix = WORDS_OF_TYPES[type_]
    return f"{words} {printable(storage_key.removeprefix(prefix))}"


def printable_words(words: str) -> str:
    r"""Return words with each character that is not printable as `\xHH`, `\uHHHH` or `\UHHHHHHHH`."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in words)


def printable_path(path: str) -> str:
    r"""Return a path as a shell reads it; one that is not printable as bash and zsh do, in `$'..'`."""
    if path.isprintable():
        return shlex.quote(path)
    data = os.fsencode(path)
    shown = (chr(byte) if 0x20 <= byte < 0x7F and byte not in b"'\\" else f"\\x{byte:02x}" for byte in data)
    return f"$'{''.join(shown)}'"
