"""The collector: collections are filled, emptied, trimmed, made wide, deleted, and their keys retyped."""

import struct

from collection_stores import MAGICS, SHORT, sized, text_field
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from reach import Reach, steps
from store_machine import COMMON, EXPIRIES, MOMENTS, OF_COLLECTIONS, OF_STRINGS, USER_KEYS, Store
from writer import delete, expiry, put

REACH = Reach("collections", COMMON | OF_COLLECTIONS, OF_STRINGS)
ELEMENTS = {"hash": b"!hs|fld|", "set": b"!st|mem|", "zset": b"!zs|mem|"}
"""Type = the prefix of its elements."""
NAMES = st.sampled_from([b"", b"a", b"ab", b"\xff", b"<&>"])
WIDE = st.sampled_from(list(ELEMENTS))
WORDS = (b"|meta|", b"|meta|d|", b"|fld|", b"|mem|", b"|scr|", b"|claim|", b"|entry|")
"""What stands between the short name of a type and a sized user key."""


def meta_key(type_: str, user_key: bytes) -> bytes:
    """Write the storage key of a meta. [TYPE-1]"""
    return b"!" + SHORT[type_] + b"|meta|" + (user_key if type_ == "list" else sized(user_key))


def delta_key(type_: str, user_key: bytes, ts: int) -> bytes:
    """Write the storage key of a delta. [TYPE-1]"""
    return b"!" + SHORT[type_] + b"|meta|d|" + sized(user_key) + struct.pack(">QI", ts, 0)


class Collections(Store):
    """Writes collections."""

    reach = REACH

    # Types that come late in the order of types are shadowed in a store that many rules have written.
    @initialize(what=st.sampled_from(["string", "stream", "damage", *ELEMENTS]), key=USER_KEYS)
    def begin(self, what: str, key: bytes) -> None:
        self.entries.clear()
        if what == "stream":
            self.add_to_stream(key, 1, [1, 2], 1)
        elif what == "damage":
            self.damage(key, 1, "packed set without its magic")
        elif what != "string":
            self.add_element(what, key, 1, b"a")

    # A client that sets a string under the key of a set, or adds to a set under that of a string, retypes the key:
    # the keys of all rules are the same few.

    @rule(type_=WIDE, key=USER_KEYS, ts=MOMENTS, name=NAMES)
    def add_element(self, type_: str, key: bytes, ts: int, name: bytes) -> None:
        body = {"hash": b"value of " + name, "set": b"", "zset": struct.pack(">d", len(name))}[type_]
        entries = [put(ELEMENTS[type_] + sized(key) + name, ts, body), put(delta_key(type_, key, ts), ts, b"")]
        if type_ == "zset":
            entries.append(put(b"!zs|scr|" + sized(key) + body + name, ts, b""))
        self.add("element and its delta", entries)

    @rule(type_=WIDE, key=USER_KEYS, ts=MOMENTS, ms=EXPIRIES)
    def write_meta(self, type_: str, key: bytes, ts: int, ms: int | None) -> None:
        self.note_expiry(ms)
        body = expiry(1) + (b"" if ms is None else expiry(ms))
        self.add("meta", [put(meta_key(type_, key), ts, body)])

    @rule(type_=st.sampled_from([*ELEMENTS, "list"]), key=USER_KEYS, ts=MOMENTS)
    def write_deltas_alone(self, type_: str, key: bytes, ts: int) -> None:
        self.add("deltas alone", [put(delta_key(type_, key, ts), ts, bytes(16))])

    @rule(type_=st.sampled_from([*ELEMENTS, "stream"]), key=USER_KEYS, ts=MOMENTS, name=st.sampled_from([b"", b"a"]))
    def write_packed(self, type_: str, key: bytes, ts: int, name: bytes) -> None:
        body = MAGICS[type_] + text_field(1, name if type_ == "set" else text_field(1, name))
        self.add("packed collection", [put(b"!redis|" + type_.encode() + b"|" + key, ts, body)])

    @rule(type_=WIDE, key=USER_KEYS, is_removed=st.booleans())
    def make_wide(self, type_: str, key: bytes, is_removed: bool) -> None:
        packed_key = b"!redis|" + type_.encode() + b"|" + key
        self.write_packed(type_, key, 2, b"a")
        self.add_element(type_, key, 3, b"ab")
        # A server that was interrupted leaves the packed record behind.
        self.add("packed collection made wide", [delete(packed_key, 3)] if is_removed else [])

    @rule(key=USER_KEYS, ts=MOMENTS, number=st.integers(-1, 2), item=NAMES, ms=EXPIRIES)
    def push(self, key: bytes, ts: int, number: int, item: bytes, ms: int | None) -> None:
        self.note_expiry(ms)
        meta = struct.pack(">qqQ", -1, number + 1, number + 2) + (b"" if ms is None else expiry(ms))
        element = put(b"!lst|itm|" + key + struct.pack(">Q", number + 2**63), ts, item)
        self.add("push", [element, put(meta_key("list", key), ts, meta)])

    @rule(key=USER_KEYS, ts=MOMENTS, number=st.integers(-1, 2), leaves=st.booleans())
    def pop(self, key: bytes, ts: int, number: int, leaves: bool) -> None:
        claim = put(b"!lst|claim|" + sized(key) + struct.pack(">Q", number + 2**63), ts, b"")
        entries = [claim, put(delta_key("list", key, ts), ts, struct.pack(">qq", 1, -1))]
        if not leaves:
            entries.append(delete(b"!lst|itm|" + key + struct.pack(">Q", number + 2**63), ts))
        self.add("pop that left its item" if leaves else "pop", entries)

    @rule(key=USER_KEYS, ts=MOMENTS, places=st.lists(st.integers(0, 3), max_size=2), trimmed=st.integers(-1, 3))
    def add_to_stream(self, key: bytes, ts: int, places: list[int], trimmed: int) -> None:
        meta = struct.pack(">QQQ", len(places), max(places, default=0), 0)
        if trimmed >= 0:
            meta += expiry(0) + struct.pack(">QQ", trimmed, 0)
        body = b"\0RXE\1" + text_field(1, b"1-0") + text_field(2, b"name") + text_field(2, b"<v>")
        elements = [put(b"!stream|entry|" + sized(key) + struct.pack(">QQ", place, 0), ts, body) for place in places]
        name = "stream element" if trimmed < 0 else "trimmed stream"
        self.add(name, [*elements, put(meta_key("stream", key), ts, meta)])

    @rule(key=USER_KEYS, ts=MOMENTS)
    def delete_collection(self, key: bytes, ts: int) -> None:
        starts = tuple(b"!" + short + word + sized(key) for short in SHORT.values() for word in WORDS)
        found = {each[:-8] for each in self.entries if each.startswith((*starts, meta_key("list", key)))}
        self.add("deleted collection", [delete(each, ts) for each in found])


CONFIG = steps(examples=300, count=40)
