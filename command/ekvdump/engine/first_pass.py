"""The first pass over a snapshot: check the whole file, count every entry, locate the sections.

Nothing is written before this pass has ended [FILE-21]. It keeps counters and a few offsets,
never keys or values.
"""

from collections.abc import Callable, Iterator
from typing import Final

from ekvformat import keys
from ekvformat.completeness import Counters
from ekvformat.decode import PREFIX_OF_TYPE
from ekvformat.outcomes import Fault
from ekvformat.visibility import APPLIED_INDEX_KEY, VERSION_SUFFIX_SIZE, applied_index_of

from ekvdump.engine.entries import Entry, Start, decode_footer, decode_start, iter_entries
from ekvdump.engine.key_types import type_of
from ekvdump.engine.source import Crc32cReader, Source
from ekvdump.engine.versions import (
    EXISTS,
    FAULTY,
    OPERATIONAL,
    Record,
    Versions,
    find_header_fault,
    iter_records,
)

MAX_EXTENTS: Final = 8
"""Separate ranges of a section; a further range is joined to the last one, with everything between them."""


class FirstPass:
    """The results of the first pass."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.fsm_crc32c: int | None = None
        """The footer's CRC-32C, or None without a footer."""
        self.applied_index: int | None = None
        """The applied index in the file, if it has one. [VISI-9]"""
        self.counters = Counters()
        self.faulty_count = 0
        """Entries with faulty headers. [VISI-6]"""
        self.beginnings: list[bytes] = []
        """Beginnings of keys of type unknown. [KEYS-9]"""
        self.extents: dict[str, list[tuple[int, int]]] = {}
        """By type, the ranges of the file (start and end offset) that contain all its entries."""

    @property
    def has_collections(self) -> bool:
        """True if a TTL record may belong to a type without a chapter. [RTTL-9]"""
        return any(self.counters.undecoded[type_] for type_ in keys.COLLECTIONS)


Observer = Callable[[Entry, str], None]
"""Called with each entry with sound headers and its class. [COMP-7]"""


def run_first_pass(source: Source) -> FirstPass:
    """Check a whole snapshot and count its entries.

    Raises the fault that OUTC-3 and OUTC-4 select.
    """
    first_pass = FirstPass(decode_start(source))
    classify_entries(source, first_pass)
    return first_pass


def classify_entries(source: Source, first_pass: FirstPass, observe: Observer | None = None) -> None:
    """Check and count the entries; after a fault `first_pass` has the counts up to it.

    Raises the fault that OUTC-3 and OUTC-4 select.
    """
    reader = Crc32cReader(source)
    counts, undecoded = first_pass.counters.entries, first_pass.counters.undecoded
    versions = Versions(first_pass.start.last_commit_ts)
    header_fault: Fault | None = None
    end = first_pass.start.entries_offset

    for entry in iter_entries(reader, end, source.size):
        offset, key, value_offset, value_size, _ = entry
        end = value_offset + value_size
        what = versions.classify(entry)  # [COMP-7]

        if what == OPERATIONAL:
            counts[what] += 1
            if key == APPLIED_INDEX_KEY:
                first_pass.applied_index = applied_index_of([entry.as_in_memory()])
            continue

        # [OUTC-3] [OUTC-4] The first header fault is raised only when structure and footer have been checked.
        if what == FAULTY:
            first_pass.faulty_count += 1
            header_fault = header_fault or find_header_fault(entry)
            continue

        storage_key = key[:-VERSION_SUFFIX_SIZE]
        type_ = type_of(storage_key)
        if type_ in PREFIX_OF_TYPE:
            # Every version counts here, visible or not: a tombstone hides the versions behind it.
            _extend(first_pass.extents.setdefault(type_, []), offset, end)
        if what == EXISTS:
            what = type_
            if type_ in keys.UNDECODED:
                undecoded[type_] += 1  # [KEYS-5]
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
    """Add an entry to the ranges of a section, which stay few whatever the keys are."""
    if extents and (extents[-1][1] == offset or len(extents) == MAX_EXTENTS):
        extents[-1] = (extents[-1][0], end)
    else:
        extents.append((offset, end))


def iter_section(source: Source, first_pass: FirstPass, type_: str) -> Iterator[Record]:
    """Yield the visible records of one type, in canonical order.

    Raises a fault only if the snapshot has changed since the first pass.
    """
    entries = (entry for start, end in first_pass.extents.get(type_, ()) for entry in iter_entries(source, start, end))
    return iter_records(entries, first_pass.start.last_commit_ts, lambda key: type_of(key) == type_)
