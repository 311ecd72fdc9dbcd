"""What else can be said of a snapshot that the first pass refuses. Implements part of spec chapter FILE."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import google_crc32c
from ekvformat.outcomes import Fault
from ekvformat.snapshot_file import FOOTER_SIZE

from ekvdump.engine.source import WINDOW_SIZE, SnapshotFile, Source
from ekvdump.exit_statuses import EXIT_SNAPSHOT_REFUSED

STRUCTURE: Final = frozenset(f"FILE-{number}" for number in (4, 5, 7, 8, 9, 12, 13, 15, 16))
"""Clauses of faults of structure, without that of a missing footer. [OUTC-3]"""
FITS: Final = "its last four bytes are the checksum of all others, so it was written like this"
FITS_NOT: Final = (
    "its last four bytes are not the checksum of the others, so it was cut or damaged after it was written"
)


class StructureFault(Fault):
    """A fault of structure, of which it is known whether the file is as it was written."""

    footer_fits = False


@contextmanager
def judged_whole(file: SnapshotFile) -> Iterator[None]:
    """Look at the whole file once more, if the first pass over it refuses it.

    Raises `changed` instead if the file has changed meanwhile: of a file that is still being
    written nothing else can be said [FILE-22]. A fault of structure becomes a `StructureFault`.
    """
    try:
        yield
    except Fault as fault:
        if fault.exit_status != EXIT_SNAPSHOT_REFUSED:
            raise
        file.check_unchanged()
        # Of a file that is something else, or of an empty one, this would say nothing.
        if fault.clause not in STRUCTURE or fault.name == "bad-magic" or file.size <= FOOTER_SIZE:
            raise
        fits = footer_fits(file)
        words = f"{fault.detail}; {FITS if fits else FITS_NOT}"
        judged = StructureFault(fault.name, fault.clause, words, fault.offset, fault.path, fault.key)
        judged.footer_fits = fits
        raise judged from fault


def footer_fits(source: Source) -> bool:
    """Return True if the last four bytes are the CRC-32C of all others. [FILE-18]"""
    crc, offset, end = 0, 0, source.size - FOOTER_SIZE
    if end < 0:
        return False
    while offset < end:
        piece = source.read(offset, min(WINDOW_SIZE, end - offset))
        crc, offset = google_crc32c.extend(crc, piece), offset + len(piece)
    return bool(crc == int.from_bytes(source.read(end, FOOTER_SIZE), "big"))
