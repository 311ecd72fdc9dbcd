"""ekvdump: decode an elastickv snapshot into a logical dump, look into one, or check a dump.

This is the program that operators run: it streams, and its memory does not grow with the
snapshot. What the format is, `ekvformat` says; this package imports its rules wherever they
cost neither time nor memory. The packages are the stages of a run:

    engine      the snapshot file: entries, versions, two passes, and the outputs of one run
    filesystem  directories and files: safe calls, the dump tree, sorting on disk
    verify      a dump compared with what its own files say
    cli         arguments, signals, messages, exit statuses

`inspection` describes a snapshot without writing anything.
"""

from typing import Final

__version__: Final = "0.1.0"
