"""The dump tree. Implements spec chapter TREE.

    <out>/MANIFEST.json                                 MANI
    <out>/CHECKSUMS                                     SUMS
    <out>/redis/db_<n>/strings/<segment>.bin            RSTR  blob
    <out>/redis/db_<n>/strings_ttl.jsonl                RTTL  sidecar
    <out>/redis/db_<n>/hll/<segment>.bin                RHLL  blob
    <out>/redis/db_<n>/hll_ttl.jsonl                    RTTL  sidecar
    <out>/redis/db_<n>/hashes/<segment>.json            RHAS  blob
    <out>/redis/db_<n>/lists/<segment>.json             RLIS  blob
    <out>/redis/db_<n>/sets/<segment>.json              RSET  blob
    <out>/redis/db_<n>/zsets/<segment>.json             RZSE  blob
    <out>/redis/db_<n>/streams/<segment>.jsonl          RSTM  blob
    <out>/redis/db_<n>/KEYMAP.jsonl                     KMAP  sidecar
    <out>/redis/db_<n>/unreadable.jsonl                 SALV  sidecar
    <out>/redis/db_<n>/unreadable/<segment>.<kind>.bin  SALV  blob

Here are the names and modes; how the files are written is in `safe_writing`.
"""

import re
from typing import Final

from ekvformat.keymap import KEYMAP_NAME
from ekvformat.redis_ttls import HLL_TTL_NAME, STRINGS_TTL_NAME
from ekvformat.salvage import UNREADABLE_DIRECTORY, UNREADABLE_NAME

FILE_MODE: Final = 0o600
"""Mode of every file. [TREE-7]"""
DIRECTORY_MODE: Final = 0o755
"""Mode of every directory, less the umask. [TREE-8]"""
STRINGS: Final = "strings"
"""Directory of the blobs of strings, and their name among the types wanted. [COMP-1]"""
HLLS: Final = "hll"
"""Directory of the blobs of HLLs, and their name among the types wanted. [COMP-1]"""
HASHES: Final = "hashes"
LISTS: Final = "lists"
SETS: Final = "sets"
ZSETS: Final = "zsets"
STREAMS: Final = "streams"
SELECTABLE: Final = (STRINGS, HLLS, HASHES, LISTS, SETS, ZSETS, STREAMS)
"""What a caller can name as the types wanted. [COMP-1]"""
SUFFIXES: Final = {
    STRINGS: ".bin", HLLS: ".bin", HASHES: ".json", LISTS: ".json", SETS: ".json", ZSETS: ".json",
    STREAMS: ".jsonl", UNREADABLE_DIRECTORY: ".bin",
}  # fmt: skip
"""Directory of blobs in the directory of a database = what follows the segment in their names. [TREE-4]"""
SIDECARS: Final = (STRINGS_TTL_NAME, HLL_TTL_NAME, KEYMAP_NAME, UNREADABLE_NAME)
"""Sidecars in the directory of a database."""
DATABASE_NAME: Final = re.compile(r"db_(0|[1-9][0-9]*)")
"""A directory of one database. [TREE-1]"""
DATABASE_INDEX: Final = re.compile(r"-?[0-9]{1,19}", re.ASCII)
"""How a command line writes a database index. [TREE-3]"""
MAX_DATABASE_INDEX: Final = 2_147_483_647
"""Largest database index, 2^31 - 1. [TREE-3]"""


def database_directory(database: int) -> str:
    """Return the directory of a database index. [TREE-1] [TREE-2]"""
    return f"redis/db_{max(0, database)}"


def decode_database_index(text: str) -> int:
    """Decode a database index of a command line. Raises `ValueError`. [TREE-3]"""
    # Python's `int` takes more: `1_0`, blanks, and the digits of every script.
    if not DATABASE_INDEX.fullmatch(text) or int(text) > MAX_DATABASE_INDEX:
        raise ValueError(f"{text!r} is not a database index")
    return int(text)
