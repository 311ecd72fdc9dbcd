"""The ekvdump format as code: a reference decoder that keeps everything in memory.

One module per chapter of the spec, with the chapter's nouns, meant to be read
beside it and in this order:

    conventions      CONV   the cursor, through which every byte is read
    outcomes         OUTC   faults and how a run ends
    snapshot_file    FILE   snapshot bytes -> entries
    visibility       VISI   entries -> visible records
    keys             KEYS   storage key -> type
    user_keys        TYPE   which records belong to a user key, and which type it has
    envelope         ENVL   bodies with and without an envelope
    redis_strings    RSTR   body of a string -> payload and expiry
    redis_hlls       RHLL   body of an HLL -> payload and expiry
    collections      COLL   what collections share: metas, packed records, JSON
    redis_hashes     RHAS   records of a hash -> document
    redis_lists      RLIS   records of a list -> document
    redis_sets       RSET   records of a set -> document
    redis_zsets      RZSE   records of a zset -> document
    redis_streams    RSTM   records of a stream -> lines
    redis_ttls       RTTL   body of a TTL record -> expiry; lines of the sidecars
    completeness     COMP   warnings, partial dumps, counters
    decode           FATE   snapshot bytes -> dump: where these chapters meet
    segments         SEGM   user key -> file name
    keymap           KMAP   lines of KEYMAP.jsonl
    tree             TREE   names and modes of the dump tree
    manifest         MANI   MANIFEST.json
    checksums        SUMS   lines of CHECKSUMS
    safe_writing     SAFE   dump -> directory tree
                     INTO   and into a directory that holds something
    salvage          SALV   lines of unreadable.jsonl

Everything but `safe_writing` and the reading of the file in `snapshot_file` is pure.
`python -m ekvformat` is just enough of a program to be judged by the conformance
suite. Reading a dump (READ and VERI) is not here; the command does that.

Nothing here is fast, and nothing here saves memory: those are concerns of a
command, and of no interest to a reader of the format.
"""
