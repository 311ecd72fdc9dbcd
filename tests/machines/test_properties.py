"""Whole dumps of random stores against the naive model. [CONV-1]"""

import json
import random
from collections.abc import Sequence

import model
import pytest
from ekvdump.engine import first_pass, versions
from ekvdump.engine.run import decode
from ekvdump.engine.versions import Body, OpenKeys
from ekvformat.decode import Options
from ekvformat.manifest import Provenance
from ekvformat.outcomes import Counters, Fault
from harness import WALL_TIME, decode_bytes, decode_in_memory, read_tree
from hypothesis import event, given
from hypothesis import strategies as st
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
    snapshot,
    version_suffix,
    writers_row,
)

# ---- random stores ----

LOOKALIKE = [version_suffix(ts) for ts in (1, 2, 3, 8)]
TIMES = st.integers(0, 12)
USER_KEYS = st.one_of(
    # Chains of prefixes, among them bytes that look like a version suffix. [VISI-15]
    st.lists(st.sampled_from([b"a", b"\xff", b"\0", b"~", *LOOKALIKE]), max_size=4).map(b"".join),
    # Long names, and names that look like other forms. [SEGM-4] .. [SEGM-7]
    st.sampled_from([b"%" * 80, b"%" * 81, b"x" * 241, b"b64.x", b"0" * 32 + b"__", b"!x", b"_meta_applied_index"]),
    st.binary(max_size=6),
)
EXPIRIES = st.sampled_from([0, 1, 1_700_000_000_000, 2**63 - 1, 2**63, 2**64 - 1])
PAYLOADS = st.binary(max_size=8)


def bodies(version: int) -> st.SearchStrategy[bytes]:
    return st.one_of(
        st.builds(envelope, st.just(version), PAYLOADS, st.none() | EXPIRIES, other_flags=st.sampled_from([0, 0xFE])),
        PAYLOADS,
        # Now and then one that nobody can read.
        st.sampled_from([b"\xff\x01", b"\xff\x02", b"\xff\x01\x01short", b"\xff\x02\x03", b"\xff"]),
    )


OTHER_KEYS = st.sampled_from(
    [
        b"!hs|meta|d|k", b"!lst|itm|k", b"!ddb|item|t", b"!s3|blob|b", b"!sqs|msg|vis|m", b"!txn|x", b"!s3|gc|upload|u",
        b"!nobody|knows|this", b"!redis|str", b"!", b"!" + b"y" * 70,
    ]
)  # fmt: skip


@st.composite
def entries_of_one_key(draw: st.DrawFn) -> list[Entry]:
    kind = draw(st.sampled_from(["string", "hll", "ttl", "bare", "other"]))
    if kind == "other":
        key, body = draw(OTHER_KEYS), PAYLOADS
    else:
        prefix = {"string": STR, "hll": HLL, "ttl": TTL, "bare": b""}[kind]
        key = prefix + draw(USER_KEYS)
        sizes = st.one_of(EXPIRIES.map(expiry), st.sampled_from([b"", bytes(7), bytes(9)]))
        body = {"string": bodies(1), "hll": bodies(2), "ttl": sizes, "bare": bodies(1)}[kind]
    entries = []
    for commit_ts in draw(st.lists(TIMES, min_size=1, max_size=3, unique=True)):
        if draw(st.integers(0, 3)) == 0:
            entries.append(delete(key, commit_ts))
        else:
            expire_at = draw(st.sampled_from([0, 0, 0, 5, 10]))
            entries.append(put(key, commit_ts, draw(body), expire_at=expire_at))
    return entries


@st.composite
def stores(draw: st.DrawFn) -> list[Entry]:
    found: dict[bytes, bytes] = {}
    for entries in draw(st.lists(entries_of_one_key(), max_size=12)):
        found.update(entries)
    if draw(st.booleans()):
        found.update([operational(b"_meta_applied_index", 7), operational(b"_meta_last_commit_ts", 9), writers_row()])
    return sorted(found.items())


FRAMES = st.sampled_from([(HEADER_V1, True), (header_v2(), True), (header_v2(b"new"), True), (b"", True), (b"", False)])


@given(
    stores(),
    TIMES,
    FRAMES,
    st.integers(-1, 3),
    st.sampled_from([None, {"strings"}, {"hll"}, {"strings", "hll"}]),
    st.booleans(),
    st.booleans(),
)
def test_conv_1_salv_1_a_dump_is_what_the_model_says(
    tmp_path_factory: pytest.TempPathFactory,
    entries: list[Entry],
    last_commit: int,
    frame: tuple[bytes, bool],
    database: int,
    only: set[str] | None,
    salvage: bool,
    handles: bool,
) -> None:
    folder = tmp_path_factory.mktemp("dump")
    header, with_footer = frame
    data = snapshot(entries, last_commit=last_commit, header=header, with_footer=with_footer)
    expected = model.expected_dump(
        entries, last_commit, place=len(header) + 16, database=max(0, database), only=only, salvage=salvage
    )
    types = None if only is None else frozenset(only)
    options = Options(database, types, salvage)
    try:
        outcome = decode_bytes(data, folder, options, sync=False, handles=handles)
    except Fault as fault:
        event("refused")
        assert (fault.name, fault.clause, fault.key, fault.offset) == expected.refusal
        left = read_tree(folder / "out") if (folder / "out").exists() else {}
        assert not {"MANIFEST.json", "CHECKSUMS"} & set(left)
        return
    assert expected.refusal is None
    event("complete" if outcome.complete else "partial")
    assert counters_of(outcome.counters) == model.expected_counters(expected)

    files = read_tree(folder / "out")
    manifest = json.loads(files.pop("MANIFEST.json"))
    warnings = manifest["outcome"]["warnings"]
    for warning in warnings:
        assert warning.pop("detail")
    if not handles:
        assert warnings.pop() == {"name": "unguarded-writes", "count": 1, "about": []}  # [TREE-38]
    assert manifest == model.expected_manifest(
        expected,
        path=str(folder / "snapshot"),
        crc32c=data[-4:].hex() if with_footer else None,
        last_commit=last_commit,
        wall_time=WALL_TIME,
        database=max(0, database),
        everything=only is None,
    )
    checksums = files.pop("CHECKSUMS")
    assert files == expected.files
    sealed = files | {"MANIFEST.json": (folder / "out" / "MANIFEST.json").read_bytes()}
    assert checksums == model.checksums(sealed)


def counters_of(counters: Counters) -> dict[str, dict[str, int]]:
    return {group: getattr(counters, group) for group in ("entries", "undecoded", "strings", "hlls", "ttls")}


@given(stores(), TIMES)
def test_mani_3_a_second_run_with_the_same_time_is_byte_identical(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], last_commit: int
) -> None:
    folder = tmp_path_factory.mktemp("twice")
    snapshot_path = folder / "snapshot"
    snapshot_path.write_bytes(snapshot(entries, last_commit=last_commit))
    trees = []
    for out in ("one", "two"):
        try:
            decode(
                str(snapshot_path),
                str(folder / out),
                provenance=Provenance(str(snapshot_path), wall_time=WALL_TIME),
                sync=False,
            )
            trees.append(read_tree(folder / out))
        except Fault as fault:
            trees.append({"refused": str(fault).encode()})
    assert trees[0] == trees[1]


# ---- the stack of open keys and the canonical order, on keys built to break them ----


def hostile_store(dice: random.Random) -> list[Entry]:
    """Chains of prefixes whose next bytes look like a version suffix, other times in each section, FF chains."""
    times = [1, 2, 3, 200, 2**56, 2**64 - 1]
    steps = [
        b"",
        b"a",
        b"\xff",
        b"\xff\xff",
        *map(version_suffix, times),
        version_suffix(3)[:7],
        version_suffix(2)[1:],
    ]
    user_keys = [b""]
    for _ in range(dice.randint(1, 5)):
        user_keys.append((dice.choice(user_keys) + dice.choice(steps))[:40])
    found: dict[bytes, bytes] = {}
    for prefix in (STR, HLL, TTL, b""):
        for user_key in dice.sample(user_keys, dice.randint(1, len(user_keys))):
            for commit_ts in dice.sample(times, dice.randint(1, 3)):
                if dice.random() < 0.2:
                    found.update([delete(prefix + user_key, commit_ts)])
                else:
                    body = expiry(commit_ts) if prefix == TTL else b"%d" % commit_ts
                    found.update([put(prefix + user_key, commit_ts, body)])
    return sorted(found.items())


def first_difference(seeds: range) -> int | None:
    """The first seed whose store is decoded otherwise than the model says, or None."""
    for seed in seeds:
        dice = random.Random(seed)
        entries = hostile_store(dice)
        last_commit = dice.choice([3, 2**57, 2**64 - 1])
        expected = model.expected_dump(entries, last_commit)
        try:
            outcome, files = decode_in_memory(snapshot(entries, last_commit=last_commit))
        except Exception:
            return seed
        if files != expected.files or counters_of(outcome.counters) != model.expected_counters(expected):
            return seed
    return None


SEEDS = 12_000
SHARDS = 4


@pytest.mark.parametrize("shard", range(SHARDS))
def test_visi_15_every_version_is_found_and_visi_17_every_order_is_canonical(shard: int) -> None:
    size = SEEDS // SHARDS
    assert first_difference(range(shard * size, (shard + 1) * size)) is None


def test_visi_9_a_section_in_few_stretches_skips_what_lies_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second pass may meet entries of other sections, and the node's own rows. [VISI-17]"""
    monkeypatch.setattr(first_pass, "MAX_EXTENTS", 1)
    assert first_difference(range(500)) is None
    entries = [put(b"^", 1, b"before"), operational(b"_meta_applied_index", 7), put(b"_n", 1, b"behind")]
    _, files = decode_in_memory(snapshot(entries))
    assert sorted(files.values()) == [b"before", b"behind"]


class ComparesStorageKeys(OpenKeys):
    """Closes a key that is no prefix of the *storage* key at hand. [VISI-18]"""

    def advance(self, encoded_key: bytes) -> Sequence[tuple[int, Body | None]]:
        closed = list(super().advance(encoded_key))
        while self._sizes and self._sizes[-1] > len(encoded_key) - 8:
            closed.append((self._sizes.pop(), self._bodies.pop()))
        self.longest = encoded_key[: self._sizes[-1]] if self._sizes else b""
        return closed


class PushesOnTop(OpenKeys):
    """Puts a key that arrives on top of the stack, whatever its size. [VISI-19]"""

    def is_open(self, size: int) -> bool:
        return size in self._sizes

    def open(self, size: int, body: Body | None) -> None:
        self._sizes.append(size)
        self._bodies.append(body)
        self.longest = self.current[:size]


class ShortestFirst(OpenKeys):
    """Lets the shortest of several keys leave first. [VISI-20]"""

    def advance(self, encoded_key: bytes) -> Sequence[tuple[int, Body | None]]:
        return super().advance(encoded_key)[::-1]

    def close_all(self) -> Sequence[tuple[int, Body | None]]:
        return super().close_all()[::-1]


class ComparesWithPreviousOnly(OpenKeys):
    """Closes a key as soon as an entry of another one comes. [VISI-15]"""

    def advance(self, encoded_key: bytes) -> Sequence[tuple[int, Body | None]]:
        closed = []
        if self._sizes and self.current[: self._sizes[-1]] != encoded_key[:-8]:
            closed.append((self._sizes.pop(), self._bodies.pop()))
        self.current = encoded_key
        return closed


@pytest.mark.parametrize(
    "variant",
    [ComparesStorageKeys, PushesOnTop, ShortestFirst, ComparesWithPreviousOnly],
    ids=lambda kind: kind.__name__,
)
def test_visi_18_visi_19_visi_20_each_wrong_variant_is_caught(
    variant: type[OpenKeys], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "OpenKeys", variant)
    assert first_difference(range(SEEDS // SHARDS)) is not None
