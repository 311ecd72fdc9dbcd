"""ekvdump: decode an elastickv snapshot into a logical dump, look into one, or check a dump.

This is the program that operators run: it streams, and its memory does not grow with the
snapshot. What the format is, `ekvformat` says; this package imports its rules wherever they
cost neither time nor memory. Rooms import only
those above them in this list:

    exit_statuses  the closed list of exit statuses
    system_faults  the one place where an error of the system becomes a fault
    engine         the snapshot file: entries, versions, two passes, and the outputs of one run
    filesystem     directories and files: safe calls, the dump tree, sorting on disk
    outcome        how a run ended
    run            one decode, from the snapshot to the sealed tree
    inspection     a snapshot described without writing anything
    verify         a dump compared with what its own files say
    cli            arguments, signals, messages
"""

from typing import Final

__version__: Final = "0.1.0"
