"""Describing a snapshot without writing anything.

The first pass of every decode, with additional counters, and then its outputs without their
payloads, so that the description says how a decode will end. A snapshot that would be refused
is described as far as it can be read, with the fault and its place.
"""

from collections.abc import Callable
from typing import Final

from ekvformat.decode import Options
from ekvformat.outcomes import Fault
from ekvformat.redis_hlls import decode_hll_value
from ekvformat.redis_strings import decode_string_value
from ekvformat.redis_ttls import decode_ttl_value
from ekvformat.snapshot_file import decode_snapshot_name
from ekvformat.visibility import TOMBSTONE, VALUE_HEADER_SIZE, VERSION_SUFFIX_SIZE

from ekvdump.engine.entries import Entry, decode_start
from ekvdump.engine.first_pass import FirstPass, classify_entries
from ekvdump.engine.key_types import prefix_of
from ekvdump.engine.outputs import Outputs, shown_count
from ekvdump.engine.refusals import judged_whole
from ekvdump.engine.source import Progress, ProgressSource, SnapshotFile, Source
from ekvdump.exit_statuses import EXIT_SNAPSHOT_REFUSED

CLOCK_SHIFT: Final = 16
"""A commit timestamp is Unix ms, shifted left by this, plus a counter in the lower bits."""

DECODERS: Final[dict[str, Callable[[bytes], int | None]]] = {
    "string": lambda head: decode_string_value(head).expiry_ms,
    "hll": lambda head: decode_hll_value(head).expiry_ms,
    "ttl": decode_ttl_value,
}
"""The function that decodes the expiry of a value; the head of the value is enough."""


class Inspection:
    """The description of a snapshot."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = 0
        """Bytes."""
        self.first_pass: FirstPass | None = None
        """The counters of the first pass; None if not even the header could be read."""
        self.footer = "not reached"
        """`sound`, `wrong`, `none` or `not reached`."""
        self.name_index: int | None = None
        """The applied index in the file name."""
        self.tombstone_count = 0
        """Tombstones among all versions, not only those that count."""
        self.prefixes: dict[str, int] = {}
        """Entries by prefix, all versions; `!` for unknown keys and the empty prefix for bare keys."""
        self.expired = dict.fromkeys(("string", "hll", "ttl"), 0)
        """Visible envelopes and TTL records whose expiry had passed at the last commit."""
        self.unreadable_count = 0
        """Visible strings, HLLs, collections and TTL records that no client could read. [SALV-2] [SALV-10]"""
        self.shown_count = 0
        """Keys that a dump shows, with salvage if there are values that no client could read."""
        self.fault: Fault | None = None
        """Why the snapshot is refused."""
        self.value_fault: Fault | None = None
        """Why a decode without salvage refuses it all the same: the first value that no client could read."""

    @property
    def last_commit_ms(self) -> int | None:
        """The last commit as Unix time in ms; it may be some seconds ahead of the wall clock."""
        return None if self.first_pass is None else self.first_pass.start.last_commit_ts >> CLOCK_SHIFT

    def observe(self, entry: Entry, what: str) -> None:
        """Count what the first pass does not."""
        _, key, _, _, value_head = entry
        prefix = prefix_of(key[:-VERSION_SUFFIX_SIZE]).decode("ascii")
        self.prefixes[prefix] = self.prefixes.get(prefix, 0) + 1
        self.tombstone_count += value_head[0] & TOMBSTONE
        if what in DECODERS:
            try:
                expiry_ms = DECODERS[what](value_head[VALUE_HEADER_SIZE:])
            except Fault:
                pass  # counted with the keys
            else:
                if expiry_ms is not None and expiry_ms <= (self.last_commit_ms or 0):
                    self.expired[what] += 1

    def judge_values(self, source: Source, first_pass: FirstPass, progress: Progress | None) -> None:
        """Find out what a decode would make of the values; payloads of strings and HLLs are not read."""
        counters = first_pass.counters
        outputs = Outputs(source, first_pass, Options(), progress, payloads=False)
        try:
            for _ in outputs:
                pass
        except Fault as fault:
            if fault.name != "invalid-value":
                raise
            self.value_fault = fault
            for group in (counters.strings, counters.hlls, counters.ttls, counters.collections):
                group.update(dict.fromkeys(group, 0))
            for group in counters.by_type.values():
                group.update(dict.fromkeys(group, 0))
            outputs = Outputs(source, first_pass, Options(salvage=True), progress, payloads=False)
            for _ in outputs:
                pass
        self.unreadable_count = outputs.unreadable_count
        self.shown_count = shown_count(counters)


def inspect(path: str, progress: Progress | None = None) -> Inspection:
    """Describe a snapshot. Raises `io-error` or `changed`; any other fault is part of the description."""
    result = Inspection(path)
    result.name_index = decode_snapshot_name(path)
    with SnapshotFile(path) as file:
        source = ProgressSource(file, progress) if progress else file
        result.size = file.size
        try:
            with judged_whole(file):
                result.first_pass = FirstPass(decode_start(source))
                classify_entries(source, result.first_pass, result.observe)
            result.footer = "none" if result.first_pass.fsm_crc32c is None else "sound"
            result.judge_values(file, result.first_pass, progress)
        except Fault as fault:
            if fault.exit_status != EXIT_SNAPSHOT_REFUSED or fault.name == "changed":
                raise
            result.fault = fault
            if fault.name == "footer-mismatch":
                result.footer = "wrong"
            elif result.first_pass is not None and result.first_pass.fsm_crc32c is not None:
                result.footer = "sound"
        finally:
            if result.first_pass is not None:
                result.first_pass.close()
        file.check_unchanged()
    result.prefixes = dict(sorted(result.prefixes.items()))
    return result
