"""The ekvdump format as code: a reference decoder that keeps everything in memory.

One module per chapter of the spec, with the chapter's nouns, meant to be read
beside it and in its order:

    conventions      CONV   the cursor, through which every byte is read
    snapshot_file    FILE   snapshot bytes -> entries
    visibility       VISI   entries -> visible records
    keys             KEYS   record -> type
    redis_strings    RSTR   body of a string -> payload and expiry
    redis_hlls       RHLL   body of an HLL -> payload and expiry
    redis_ttls       RTTL   TTL row -> expiry; rows of the expiry sidecars
    segments         SEGM   user key -> file name, and back
    tree             TREE   dump -> directory tree, and back
    keymap           KMAP   lines of KEYMAP.jsonl
    manifest         MANI   MANIFEST.json
    checksums        SUMS   lines of CHECKSUMS
    outcomes         OUTC   faults, warnings, counters
    salvage          SALV   lines of unreadable.jsonl
    verification     VERI   what is wrong with a dump

`decode` puts the chapters in a row: snapshot bytes in, `Dump` out. Everything but
`tree` and `snapshot_file.read_snapshot` is pure. `python -m ekvformat` is just
enough of a program to be judged by the conformance suite.

Nothing here is fast, and nothing here saves memory: those are the concerns of a
command, and of no interest to a reader of the format.
"""
