"""The first pass over a snapshot: check the whole file, count every entry, list the visible records.

Nothing is written before this pass has ended [FILE-21]. It is the only one: what comes
after it reads the lists of records, and of the snapshot nothing but their bodies.
"""

from collections.abc import Callable

from ekvformat import keys
from ekvformat.completeness import Counters
from ekvformat.decode import PREFIX_OF_TYPE
from ekvformat.keys import TYPE_OF_PREFIX
from ekvformat.outcomes import Fault
from ekvformat.visibility import APPLIED_INDEX_KEY, VERSION_SUFFIX_SIZE, applied_index_of

from ekvdump.engine.collection_index import CollectionIndex
from ekvdump.engine.entries import Entry, Start, as_in_memory, decode_footer, decode_start, iter_entries
from ekvdump.engine.key_types import prefix_of, type_of
from ekvdump.engine.record_index import RecordIndex
from ekvdump.engine.source import Crc32cReader, Source
from ekvdump.engine.versions import (
    EXISTS,
    FAULTY,
    OPERATIONAL,
    Versions,
    find_header_fault,
)


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
        self.records: dict[str, RecordIndex] = {type_: RecordIndex() for type_ in PREFIX_OF_TYPE}
        """Of strings, HLLs and TTLs: by type, the visible records in canonical order. [VISI-17]"""
        self.collections = CollectionIndex()
        """The visible records of all collections."""

    def close(self) -> None:
        """Give up the records."""
        for records in self.records.values():
            records.close()
        self.collections.close()


Observer = Callable[[Entry, str], None]
"""Called with each entry with sound headers and its class. [COMP-7]"""


def run_first_pass(source: Source) -> FirstPass:
    """Check a whole snapshot and count its entries.

    Raises the fault that OUTC-3 and OUTC-4 select.
    """
    first_pass = FirstPass(decode_start(source))
    try:
        classify_entries(source, first_pass)
    except BaseException:
        first_pass.close()
        raise
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
        _, key, value_offset, value_size, _ = entry
        end = value_offset + value_size
        what = versions.classify(entry)  # [COMP-7]
        if versions.closed:
            _add_records(first_pass, versions)

        if what == OPERATIONAL:
            counts[what] += 1
            if key == APPLIED_INDEX_KEY:
                first_pass.applied_index = applied_index_of([as_in_memory(entry)])
            continue

        # [OUTC-3] [OUTC-4] The first header fault is raised only when structure and footer have been checked.
        if what == FAULTY:
            first_pass.faulty_count += 1
            header_fault = header_fault or find_header_fault(entry)
            continue

        storage_key = key[:-VERSION_SUFFIX_SIZE]
        type_ = type_of(storage_key)
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

    versions.close()
    _add_records(first_pass, versions)
    first_pass.collections.finish()
    first_pass.fsm_crc32c = decode_footer(source, reader, end, has_header=first_pass.start.has_header)
    if header_fault is not None:
        raise header_fault


def _add_records(first_pass: FirstPass, versions: Versions) -> None:
    """Add the records of the keys that the last entry closed."""
    records = first_pass.records
    for storage_key, (offset, size, head) in versions.take_records():
        prefix = prefix_of(storage_key)
        if (type_ := TYPE_OF_PREFIX[prefix]) in records:
            records[type_].add(storage_key[len(PREFIX_OF_TYPE[type_]) :], offset, size, head)
        elif type_ in keys.COLLECTIONS:
            first_pass.collections.add(storage_key, prefix, offset, size, head)
