"""Contracts of what decodes or encodes a single value: what comes of any input up to a bound, by the spec.

CrossHair runs these functions with symbolic input and tries to break what stands behind
`post`. Loops over sizes (segments, escapes, JSON) are not for it; those are Hypothesis's.
"""

from ekvdump.verify.manifest import require_known_version
from ekvformat.collections import decode_meta
from ekvformat.completeness import Counters
from ekvformat.envelope import Value
from ekvformat.outcomes import Fault
from ekvformat.redis_hlls import decode_hll_value
from ekvformat.redis_lists import decode_list_meta
from ekvformat.redis_streams import decode_stream_meta, is_behind
from ekvformat.redis_strings import decode_bare_value, decode_string_value
from ekvformat.redis_ttls import decode_ttl_value
from ekvformat.redis_zsets import decode_element as decode_member
from ekvformat.snapshot_file import Entry
from ekvformat.visibility import Record, compare_keys, decode_version, visible_records
from writer import envelope, expiry, put, version_suffix

MOST_MS = 9_223_372_036_854_775_807
Answer = tuple[bytes, int | None] | tuple[str, str, int | None]
"""Payload and expiry; or fault, clause and offset."""
NUMBERS = (0, 1, 255, 256, 2**32, MOST_MS - 1, MOST_MS, MOST_MS + 1, 2**64 - 1)
"""Around each end. Bytes of a number are not made in Python, so only the choice among some numbers is symbolic."""
WINDOWS = ((0, 1), (-(2**63), MOST_MS), (2**63 - 1, 1), (0, MOST_MS + 1))
"""Head and length of a list. The third has no tail, and the fourth no length, that there is room for."""
SCORES: tuple[tuple[str, object], ...] = (
    ("0000000000000000", 0.0), ("3FF0000000000000", 1.0), ("C000000000000000", -2.0), ("0000000000000001", 5e-324),
    ("7FEFFFFFFFFFFFFF", 1.7976931348623157e308), ("7FF0000000000000", float("inf")),
    ("FFF0000000000000", float("-inf")), ("7FF0000000000001", ("invalid-value", "RZSE-2", 50)),
    ("7FF8000000000000", ("invalid-value", "RZSE-2", 50)), ("FFFFFFFFFFFFFFFF", ("invalid-value", "RZSE-2", 50)),
)  # fmt: skip
"""Bytes of a double in hex = the score, or why it is none."""
OTHER_FLAGS = (0, 0b1111_1110)
HEADER_FLAGS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0b0001_0000, 0b0010_0000, 0b0100_0000, 0b1000_0000, 0b1111_1111)
"""Each bit alone, and each encryption state with and without a tombstone."""


def _reported(value: Value) -> Answer:
    return value.payload, value.expiry_ms


def _refused(fault: Fault) -> Answer:
    return fault.name, fault.clause, fault.offset


def _expected(body: bytes, kind: int) -> Answer:
    """[ENVL-1] to [ENVL-9]"""
    if body[:1] != b"\xff" or body[1:2] != bytes([kind]):
        return body, None
    if len(body) == 2:
        return "invalid-value", "ENVL-4", 2
    if body[2] % 2 == 0:
        return body[3:], None
    if len(body) < 11:
        return "invalid-value", "ENVL-5", 3
    return body[11:], min(int.from_bytes(body[3:11], "big"), MOST_MS)


def string_value(body: bytes) -> tuple[Answer, Answer]:
    """A string is what its layout says, whatever its bytes.

    pre: len(body) <= 13
    post: __return__[0] == __return__[1]
    """
    try:
        return _reported(decode_string_value(body)), _expected(body, 1)
    except Fault as fault:
        return _refused(fault), _expected(body, 1)


def hll_value(body: bytes) -> tuple[Answer, Answer]:
    """An HLL is what its layout says, whatever its bytes.

    pre: len(body) <= 13
    post: __return__[0] == __return__[1]
    """
    try:
        return _reported(decode_hll_value(body)), _expected(body, 2)
    except Fault as fault:
        return _refused(fault), _expected(body, 2)


def bare_value(body: bytes) -> Value:
    """A bare string is its body. [RSTR-3]

    pre: len(body) <= 13
    post: __return__ == (body, None)
    """
    return decode_bare_value(body, 0, b"")


def written_envelope(is_hll: bool, payload: bytes, number: int, flags: int) -> tuple[Value, Value]:
    """What is written into an envelope is read from it, whatever its other flags. [ENVL-6] [ENVL-9] [ENVL-6] [ENVL-9]

    pre: len(payload) <= 2
    pre: -1 <= number < len(NUMBERS)
    pre: 0 <= flags < len(OTHER_FLAGS)
    post: __return__[0] == __return__[1]
    """
    expiry_ms = None if number < 0 else NUMBERS[number]
    written = envelope(2 if is_hll else 1, payload, expiry_ms, other_flags=OTHER_FLAGS[flags])
    expected = Value(payload, None if expiry_ms is None else min(expiry_ms, MOST_MS))
    return (decode_hll_value if is_hll else decode_string_value)(written), expected


def ttl_value(body: bytes) -> tuple[object, object]:
    """A TTL record is eight bytes, and nothing else is one. [RTTL-1] [RTTL-2] [RTTL-3]

    pre: len(body) <= 10
    post: __return__[0] == __return__[1]
    """
    expected: object = ("invalid-value", "RTTL-1", 0)
    if len(body) == 8:
        expected = min(int.from_bytes(body, "big"), MOST_MS)
    try:
        return decode_ttl_value(body), expected
    except Fault as fault:
        return _refused(fault), expected


def ttl_row(number: int) -> tuple[int, int]:
    """What is written into a row is read from it. [RTTL-2]

    pre: 0 <= number < len(NUMBERS)
    post: __return__[0] == __return__[1]
    """
    return decode_ttl_value(expiry(NUMBERS[number])), min(NUMBERS[number], MOST_MS)


def entry_headers(has_key: bool, has_value: bool, number: int) -> tuple[object, object]:
    """The headers of an entry are judged in their order. [VISI-1] to [VISI-6]

    pre: 0 <= number < len(HEADER_FLAGS)
    post: __return__[0] == __return__[1]
    """
    flags = HEADER_FLAGS[number]
    key, value = b"k" * (8 if has_key else 7), bytes([flags]) + bytes(8 if has_value else 7)
    expected: object = flags == 1
    if not has_key:
        expected = ("too-short", "VISI-1", 108)
    elif not has_value:
        expected = ("too-short", "VISI-2", 200)
    elif flags >= 8:
        expected = ("reserved-bits", "VISI-3", 200)
    elif flags >= 4:
        expected = ("reserved-bits", "VISI-4", 200)
    elif flags >= 2:
        expected = ("encrypted", "VISI-5", 200)
    try:
        return decode_version(Entry(key, 108, value, 200)).is_tombstone, expected
    except Fault as fault:
        return _refused(fault), expected


def version(body: bytes, tombstone: bool, expire_at: int, last_commit: int) -> tuple[object, object]:
    """A version is a tombstone, or has ended by the last commit, or exists. [VISI-2] [VISI-12] [VISI-13]

    pre: len(body) <= 2
    pre: 0 <= expire_at < len(NUMBERS)
    pre: 0 <= last_commit < 3
    post: __return__[0] == __return__[1]
    """
    ends, last = NUMBERS[expire_at], (1, 255, 2**64 - 1)[last_commit]
    key, value = put(b"k", 1, body, flags=int(tombstone), expire_at=ends)
    exists = not tombstone and not 0 < ends <= last
    expected = [Record(b"k", body, 209)] if exists else []
    return visible_records([Entry(key, 108, value, 200)], last, Counters()), expected


def commit_timestamp(number: int, later: int) -> tuple[object, object]:
    """The suffix that is written of a commit timestamp is read as it, and compared with the last. [VISI-1] [VISI-14]

    pre: 1 <= number < len(NUMBERS) - 1
    pre: -1 <= later <= 1
    post: __return__[0] == __return__[1]
    """
    entry = Entry(b"k" + version_suffix(NUMBERS[number]), 108, bytes(9), 200)
    counters = Counters()
    visible_records([entry], NUMBERS[number] + later, counters)
    expected = NUMBERS[number], int(later < 0)
    return (decode_version(entry).commit_ts, counters.entries["future"]), expected


def canonical_order(key: bytes, other: bytes) -> tuple[bool, bool]:
    """Bytewise, with the end of a key above every byte. [VISI-17]

    pre: len(key) <= 2
    pre: len(other) <= 2
    pre: key != other
    post: __return__[0] == __return__[1]
    """
    return compare_keys(key, other) < 0, (*key, 256) < (*other, 256)


def manifest_version(version: int | bool | float | str | list[int] | dict[str, int] | None) -> tuple[str, str]:
    """Version 1 is read; another number is an unknown version; anything else is not a version. [READ-14]

    pre: not isinstance(version, int) or -2 <= version <= 3
    pre: not isinstance(version, float) or version in (0.0, 1.0, 2.0)
    pre: not isinstance(version, str | list | dict) or len(version) <= 1
    post: __return__[0] == __return__[1]
    """
    if isinstance(version, bool) or not isinstance(version, int):
        expected = "invalid-manifest"
    else:
        expected = "read" if version == 1 else "unsupported-manifest"
    try:
        require_known_version(version)
    except Fault as fault:
        return fault.name, expected
    return "read", expected


def meta_of_a_set(size: int, length: int, number: int) -> tuple[Answer, Answer]:
    """A meta has a length, and an expiry if there is room for one, for which 0 is none. [COLL-1] [COLL-2] [COLL-4]

    pre: 0 <= size <= 17
    pre: 0 <= length < len(NUMBERS)
    pre: 0 <= number < len(NUMBERS)
    post: __return__[0] == __return__[1]
    """
    expected: Answer = b"", min(NUMBERS[number], MOST_MS) or None if size == 16 else None
    if size not in (8, 16):
        expected = "invalid-value", "COLL-1", 50
    elif NUMBERS[length] > MOST_MS:
        expected = "invalid-value", "COLL-2", 50
    body = (expiry(NUMBERS[length]) + expiry(NUMBERS[number]) + b"x")[:size]
    try:
        return (b"", decode_meta({"meta": {b"": Record(b"!st|meta|", body, 50)}}).expiry_ms), expected
    except Fault as fault:
        return _refused(fault), expected


def meta_of_a_list(size: int, number: int, difference: int) -> tuple[object, object]:
    """The tail of a list is its head and its length, and a list may have an expiry. [RLIS-1] [COLL-2] [COLL-4]

    pre: size in (24, 31, 32)
    pre: 0 <= number < len(WINDOWS)
    pre: 0 <= difference <= 1
    post: __return__[0] == __return__[1]
    """
    head, length = WINDOWS[number]
    tail = head + length + difference
    stored_tail = (tail + 2**63) % 2**64 - 2**63
    expected: object = head, length, MOST_MS if size == 32 else None
    if size not in (24, 32):
        expected = "invalid-value", "RLIS-1", 50
    elif length > MOST_MS:
        expected = "invalid-value", "COLL-2", 66
    elif stored_tail != head + length:
        expected = "invalid-value", "RLIS-1", 58
    numbers = (head % 2**64, stored_tail % 2**64, length, 2**64 - 1)
    body = (b"".join(expiry(each) for each in numbers) + b"x")[:size]
    try:
        meta = decode_list_meta({"meta": {b"": Record(b"!lst|meta|", body, 50)}})
    except Fault as fault:
        return _refused(fault), expected
    return (meta.head, meta.length, meta.expiry_ms), expected


def meta_of_a_stream(size: int, length: int, number: int) -> tuple[object, object]:
    """A stream has a newest ID, and may have an expiry and a trimmed ID. [RSTM-1] [COLL-2] [COLL-4]

    pre: 23 <= size <= 49
    pre: 0 <= length < len(NUMBERS)
    pre: 0 <= number < len(NUMBERS)
    post: __return__[0] == __return__[1]
    """
    ends = min(NUMBERS[number], MOST_MS) or None if size >= 32 else None
    expected: object = NUMBERS[length], (7, 8), ends, (9, NUMBERS[number]) if size == 48 else None
    if size not in (24, 32, 48):
        expected = "invalid-value", "RSTM-1", 50
    elif NUMBERS[length] > MOST_MS:
        expected = "invalid-value", "COLL-2", 50
    numbers = (NUMBERS[length], 7, 8, NUMBERS[number], 9, NUMBERS[number])
    body = (b"".join(expiry(each) for each in numbers) + b"x")[:size]
    try:
        meta = decode_stream_meta({"meta": {b"": Record(b"!stream|meta|", body, 50)}})
    except Fault as fault:
        return _refused(fault), expected
    return (meta.length, meta.last_id, meta.expiry_ms, meta.trimmed), expected


def behind_what_was_trimmed(milliseconds: int, number: int, trimmed: int, trimmed_number: int) -> tuple[bool, bool]:
    """Milliseconds are compared first, then sequence numbers; what was trimmed last is not behind. [RSTM-2] [RSTM-3]

    pre: 0 <= milliseconds < len(NUMBERS)
    pre: 0 <= number < 3
    pre: 0 <= trimmed < len(NUMBERS)
    pre: 0 <= trimmed_number < 3
    post: __return__[0] == __return__[1]
    """
    suffix = expiry(NUMBERS[milliseconds]) + expiry(number)
    is_behind_it = milliseconds > trimmed or (milliseconds == trimmed and number > trimmed_number)
    return is_behind(suffix, (NUMBERS[trimmed], trimmed_number)), is_behind_it


def score_of_a_member(size: int, number: int) -> tuple[object, object]:
    """A score has eight bytes, and is a number; both infinities are. [RZSE-1] [RZSE-2]

    pre: 0 <= size <= 9
    pre: 0 <= number < len(SCORES)
    post: __return__[0] == __return__[1]
    """
    stored, expected = SCORES[number]
    if size != 8:
        expected = "invalid-value", "RZSE-1", 50
    body = (bytes.fromhex(stored) + b"x")[:size]
    try:
        return decode_member(Record(b"!zs|mem|", body, 50)), expected
    except Fault as fault:
        return _refused(fault), expected
