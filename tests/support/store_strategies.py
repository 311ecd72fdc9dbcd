"""Strategies of Hypothesis for stores and their parts: entries, keys, bodies and paths that are unlike others."""

import string
from collections.abc import Callable

from collection_stores import collection_record
from hypothesis import strategies as st
from stores import OTHER_KEYS
from writer import (
    HEADER_V1,
    HLL,
    STR,
    TTL,
    Entry,
    delete,
    envelope,
    expiry,
    header_v2,
    operational,
    put,
    version_suffix,
    writers_row,
)

# ---- parts ----

LOOKALIKES = [version_suffix(ts) for ts in (1, 2, 3, 8)]
"""What may continue a key, and looks like its version suffix."""
TIMES = st.integers(0, 12)
"""Commit timestamps, and last commits."""
USER_KEYS = st.one_of(
    # Chains of prefixes, among them bytes that look like a version suffix. [VISI-15]
    st.lists(st.sampled_from([b"a", b"\xff", b"\0", b"~", *LOOKALIKES]), max_size=4).map(b"".join),
    # Long names, and names that look like other forms. [SEGM-4] .. [SEGM-7]
    st.sampled_from([b"%" * 80, b"%" * 81, b"x" * 241, b"b64.x", b"0" * 32 + b"__", b"!x", b"_meta_applied_index"]),
    st.binary(max_size=6),
)
EXPIRIES = st.sampled_from([0, 1, 1_700_000_000_000, 2**63 - 1, 2**63, 2**64 - 1])
PAYLOADS = st.binary(max_size=8)
FRAMES = st.sampled_from([(HEADER_V1, True), (header_v2(), True), (header_v2(b"new"), True), (b"", True), (b"", False)])
"""Header, and whether there is a footer."""
BODIES = st.one_of(
    st.binary(max_size=16),
    st.builds(lambda start, rest: start + rest, st.sampled_from([b"\xff", b"\xff\x01", b"\xff\x02"]), st.binary()),
)
"""Bodies of strings and HLLs, of which many begin like an envelope."""
KEYS_OF_EACH_FORM = st.one_of(
    st.binary(max_size=8),
    st.binary(min_size=75, max_size=85),
    st.binary(min_size=235, max_size=245),
    st.builds(
        lambda digits, rest: digits.encode() + rest,
        st.text(string.hexdigits, min_size=31, max_size=33),
        st.sampled_from([b"__", b"_", b"__x", b"%_"]),
    ),
    st.builds(lambda start, rest: start + rest, st.sampled_from([b"b64.", b"b64", b"B64."]), st.binary(max_size=4)),
)
"""Keys whose segments are of each form, and keys that nearly are."""
PATHS = st.binary(min_size=1, max_size=20).filter(lambda path: b"\0" not in path)
ODD_PATHS = PATHS | st.lists(st.sampled_from([b"\\", b"\n", b"\r", b"n", b"a"]), min_size=1, max_size=6).map(b"".join)
"""Paths, of which many have to be escaped in CHECKSUMS."""


def bodies(version: int) -> st.SearchStrategy[bytes]:
    """Return bodies of strings, version 1, or of HLLs, version 2."""
    return st.one_of(
        st.builds(envelope, st.just(version), PAYLOADS, st.none() | EXPIRIES, other_flags=st.sampled_from([0, 0xFE])),
        PAYLOADS,
        # Now and then one that cannot be read.
        st.sampled_from([b"\xff\x01", b"\xff\x02", b"\xff\x01\x01short", b"\xff\x02\x03", b"\xff"]),
    )


# ---- stores ----


@st.composite
def entries_of_one_key(draw: st.DrawFn) -> list[Entry]:
    """Draw some versions of one storage key."""
    kind = draw(st.sampled_from(["string", "hll", "ttl", "bare", "other", "collection", "collection"]))
    body: st.SearchStrategy[bytes]
    if kind == "collection":
        key, drawn = collection_record(lambda some: draw(st.sampled_from(some)), draw(USER_KEYS))
        body = st.just(drawn)
    elif kind == "other":
        key, body = draw(st.sampled_from(OTHER_KEYS)), PAYLOADS
    else:
        prefix = {"string": STR, "hll": HLL, "ttl": TTL, "bare": b""}[kind]
        key = prefix + draw(USER_KEYS)
        rows = st.one_of(EXPIRIES.map(expiry), st.sampled_from([b"", bytes(7), bytes(9)]))
        body = {"string": bodies(1), "hll": bodies(2), "ttl": rows, "bare": bodies(1)}[kind]
    entries = []
    for commit_ts in draw(st.lists(TIMES, min_size=1, max_size=3, unique=True)):
        if draw(st.integers(0, 3)) == 0:
            entries.append(delete(key, commit_ts))
        else:
            expire_at = draw(st.sampled_from([0, 0, 0, 5, 10]))
            entries.append(put(key, commit_ts, draw(body), expire_at=expire_at))
    return entries


@st.composite
def _stores(draw: st.DrawFn) -> list[Entry]:
    found: dict[bytes, bytes] = {}
    for entries in draw(st.lists(entries_of_one_key(), max_size=12)):
        found.update(entries)
    if draw(st.booleans()):
        found.update([operational(b"_meta_applied_index", 7), operational(b"_meta_last_commit_ts", 9), writers_row()])
    return sorted(found.items())


stores: Callable[[], st.SearchStrategy[list[Entry]]] = _stores
"""Entries of any types, in the order of a file."""
