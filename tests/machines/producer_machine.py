"""The producer: strings and HLLs are written, overwritten, deleted and expired."""

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from reach import Reach, steps
from store_machine import (
    COMMON,
    EARLIER,
    EXPIRIES,
    LAST_COMMIT,
    MOMENTS,
    OF_COLLECTIONS,
    OF_STRINGS,
    PAYLOADS,
    PREFIXES,
    USER_KEYS,
    Store,
)
from writer import HLL, STR, TTL, envelope, expiry, put

REACH = Reach("producer", COMMON | OF_STRINGS, OF_COLLECTIONS)


class Producer(Store):
    """Writes strings and HLLs."""

    reach = REACH

    @initialize()
    def nothing(self) -> None:
        self.entries.clear()

    @rule(key=USER_KEYS, ts=MOMENTS, payload=PAYLOADS)
    def set_string_as_older_servers_did(self, key: bytes, ts: int, payload: bytes) -> None:
        self.add("string as it is", [put(STR + key, ts, payload)])

    @rule(key=USER_KEYS, ts=MOMENTS, payload=PAYLOADS)
    def set_bare_string(self, key: bytes, ts: int, payload: bytes) -> None:
        self.add("bare string", [put(key, ts, payload)])

    @rule(key=USER_KEYS, ts=MOMENTS, payload=PAYLOADS, ms=EXPIRIES)
    def set_hll(self, key: bytes, ts: int, payload: bytes, ms: int | None) -> None:
        self.note_expiry(ms)
        self.add("HLL in an envelope", [put(HLL + key, ts, envelope(2, payload, ms))])

    @rule(key=USER_KEYS, ts=MOMENTS, payload=PAYLOADS)
    def set_hll_as_older_servers_did(self, key: bytes, ts: int, payload: bytes) -> None:
        self.add("HLL as it is", [put(HLL + key, ts, payload)])

    @rule(kind=st.sampled_from(["string", "hll", "bare"]), key=USER_KEYS, ts=EARLIER, enveloped=st.booleans())
    def set_with_ttl(self, kind: str, key: bytes, ts: int, enveloped: bool) -> None:
        body = envelope(2 if kind == "hll" else 1, b"v", 9) if enveloped else b"v"
        self.add("value and its TTL record", [put(PREFIXES[kind] + key, ts, body), put(TTL + key, ts, expiry(8))])

    @rule(kind=st.sampled_from(list(PREFIXES)), key=USER_KEYS, ts=EARLIER, expire_at=st.integers(1, LAST_COMMIT + 2))
    def end(self, kind: str, key: bytes, ts: int, expire_at: int) -> None:
        name = "expire" if expire_at <= LAST_COMMIT else "expire after the last commit"
        self.add(name, [put(PREFIXES[kind] + key, ts, expiry(7), expire_at=expire_at)])


CONFIG = steps(examples=300, count=40)
