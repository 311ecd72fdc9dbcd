"""The ekvdump format as code: a reference decoder that keeps everything in memory.

One module per chapter of the spec, with the chapter's nouns, meant to be read
beside it and in this order:

    conventions      CONV   the cursor, through which every byte is read
    snapshot_file    FILE   snapshot bytes -> entries
    visibility       VISI   entries -> visible records
    keys             KEYS   storage key -> type
    redis_strings    RSTR   body of a string -> payload and expiry
    redis_hlls       RHLL   body of an HLL -> payload and expiry
    redis_ttls       RTTL   body of a TTL row -> expiry; rows of the sidecars
    segments         SEGM   user key -> file name
    keymap           KMAP   lines of KEYMAP.jsonl
    salvage          SALV   lines of unreadable.jsonl
    outcomes         OUTC   faults, warnings, counters
    decode           FATE   snapshot bytes -> dump: where these chapters meet
    manifest         MANI   MANIFEST.json
    checksums        SUMS   lines of CHECKSUMS
    tree             TREE   dump -> directory tree

Everything but `tree` and the reading of the file in `snapshot_file` is pure.
`python -m ekvformat` is just enough of a program to be judged by the conformance
suite. Reading a dump (VERI, and the reading halves of SEGM, KMAP, MANI and SUMS) is
not here; the command does that.

Nothing here is fast, and nothing here saves memory: those are concerns of a
command, and of no interest to a reader of the format.
"""
