"""The first pass: judge the whole file, count every entry, find the sections.

No chapter of its own: this is where FILE, VISI and KEYS meet. Nothing is
written before this pass has come to its end. [FILE-19]
"""

from collections.abc import Callable, Iterator
from typing import Final

from ekvdump.engine.entries import Entry, Start, decode_footer, decode_start, iter_entries
from ekvdump.engine.source import Crc32cReader, Source
from ekvdump.engine.versions import (
    APPLIED_INDEX_KEY,
    EXISTS,
    FAULTY,
    META_VALUE_SIZE,
    OPERATIONAL,
    VERSION_SUFFIX_SIZE,
    Record,
    Versions,
    find_header_fault,
    iter_records,
)
from ekvdump.format import keys
from ekvdump.format.keys import type_of
from ekvdump.format.outcomes import Counters, Fault

MAX_EXTENTS: Final = 8
"""How many separate stretches of the file a section may have before the last one swallows what lies between."""


class FirstPass:
    """What the first pass found."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.fsm_crc32c: int | None = None
        """The footer's CRC-32C, or None without a footer."""
        self.applied_index: int | None = None
        """What the file's own row says. [VISI-9]"""
        self.counters = Counters()
        self.faulty_count = 0
        """Entries whose headers are not sound. [VISI-6]"""
        self.beginnings: list[bytes] = []
        """Of keys of the type unknown. [KEYS-9]"""
        self.extents: dict[str, list[tuple[int, int]]] = {}
        """By type, the stretches of the file (start and end offset) that hold all its entries."""

    @property
    def has_collections(self) -> bool:
        """Whether a TTL row may belong to a type without a chapter. [RTTL-8]"""
        return any(self.counters.undecoded[type_] for type_ in keys.COLLECTIONS)


Observer = Callable[[Entry, str], None]
"""Sees each entry with sound headers, and what it is. [OUTC-14]"""


def run_first_pass(source: Source) -> FirstPass:
    """Judge a snapshot as a whole and count its entries.

    Raises the fault that OUTC-2 and OUTC-3 name.
    """
    first_pass = FirstPass(decode_start(source))
    classify_entries(source, first_pass)
    return first_pass


def classify_entries(source: Source, first_pass: FirstPass, observe: Observer | None = None) -> None:
    """Judge and count what stands behind the start; `first_pass` is filled as far as this comes.

    Raises the fault that OUTC-2 and OUTC-3 name.
    """
    reader = Crc32cReader(source)
    counts, undecoded = first_pass.counters.entries, first_pass.counters.undecoded
    versions = Versions(first_pass.start.last_commit_ts)
    header_fault: Fault | None = None
    end = first_pass.start.entries_offset

    for entry in iter_entries(reader, end, source.size):
        offset, key, value_offset, value_size, value_head = entry
        end = value_offset + value_size
        what = versions.classify(entry)  # [OUTC-14]

        if what == OPERATIONAL:
            counts[what] += 1
            if key == APPLIED_INDEX_KEY:
                first_pass.applied_index = int.from_bytes(value_head[:META_VALUE_SIZE], "little")
            continue

        # [OUTC-2] [OUTC-3] The first header fault is raised only when structure and footer have been checked.
        if what == FAULTY:
            first_pass.faulty_count += 1
            header_fault = header_fault or find_header_fault(entry)
            continue

        storage_key = key[:-VERSION_SUFFIX_SIZE]
        type_ = type_of(storage_key)
        if type_ in keys.SHOWN:
            # Every version counts here, visible or not: a tombstone hides the versions behind it.
            _extend(first_pass.extents.setdefault(type_, []), offset, end)
        if what == EXISTS:
            what = type_
            if type_ in keys.UNDECODED:
                undecoded[type_] += 1  # [KEYS-7]
                what = "undecoded"
            elif type_ == keys.UNKNOWN and len(first_pass.beginnings) < keys.MAX_BEGINNINGS:
                beginning = keys.beginning_of(storage_key)
                if beginning not in first_pass.beginnings:
                    first_pass.beginnings.append(beginning)
        counts[what] += 1
        if observe is not None:
            observe(entry, what)

    first_pass.fsm_crc32c = decode_footer(source, reader, end, has_header=first_pass.start.has_header)
    if header_fault is not None:
        raise header_fault


def _extend(extents: list[tuple[int, int]], offset: int, end: int) -> None:
    """Add an entry to a section's stretches, each as long as possible, few in number whatever the keys."""
    if extents and (extents[-1][1] == offset or len(extents) == MAX_EXTENTS):
        extents[-1] = (extents[-1][0], end)
    else:
        extents.append((offset, end))


def iter_section(source: Source, first_pass: FirstPass, type_: str) -> Iterator[Record]:
    """Yield the visible records of one type, in canonical order.

    Raises a `SnapshotFault` only where the snapshot is not any more what was judged.
    """
    entries = (entry for start, end in first_pass.extents.get(type_, ()) for entry in iter_entries(source, start, end))
    return iter_records(entries, first_pass.start.last_commit_ts, lambda key: type_of(key) == type_)
