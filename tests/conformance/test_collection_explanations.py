"""What a report says of the blob of a collection that differs."""

import pytest
from collection_stores import sized
from ekvconform.cases.contents import contents_of
from ekvconform.judge.tree_explanations import TreeExplainer
from writer import STR, Entry, delete, put, snapshot

SET = b'{\n  "format_version": 1,\n  "members": [\n    "a",\n    "b"\n  ],\n  "expire_at_ms": null\n}'
MEMBER = b"!st|mem|" + sized(b"k")
STORE = [put(MEMBER + b"a", 5, b""), put(MEMBER + b"b", 5, b"")]
GONE = [*STORE, put(MEMBER + b"old", 5, b""), delete(MEMBER + b"old", 6)]
PATH = "redis/db_0/sets/k.json"


@pytest.mark.parametrize(
    ("entries", "expected", "found", "words"),
    [
        (STORE, SET, None, ("files", "missing: set", "RSET-3")),
        ([put(b"!redis|set|k", 5, b"")], SET, None, ("files", "missing: packed set", "COLL-6")),
        ([*STORE, put(STR + b"k", 5, b"v")], None, SET, ("files", "shown: a shadowed set", "TYPE-5")),
        ([delete(MEMBER + b"a", 6)], None, SET, ("files", "shown: a set of deleted records", "VISI-12")),
        (STORE, SET, SET.replace(b'"a",', b'"a",\n    "c",'), ("payloads", "elements of a set too many", "RSET-3")),
        (STORE, SET, SET.replace(b'"b"', b'"c"'), ("payloads", "other elements of a set", "RSET-3")),
        (GONE, SET, SET.replace(b'"a",', b'"a",\n    "old",'), ("payloads", "elements of deleted records", "VISI-12")),
        (STORE, SET, SET.replace(b"null", b"7"), ("expiries", "another expiry: of a set", "COLL-5")),
        (STORE, SET, SET.replace(b'"a",\n    "b"', b'"b",\n    "a"'),
         ("payloads", "elements of a set in another order", "COLL-21")),
        (STORE, SET, SET + b"\n", ("payloads", "of a set: written otherwise", "COLL-18")),
        (STORE, SET, b"{", ("payloads", "of a set: not the JSON that it should be", "COLL-18")),
    ],
)  # fmt: skip
def test_a_difference_has_a_form_and_a_clause(
    entries: list[Entry], expected: bytes | None, found: bytes | None, words: tuple[str, str, str]
) -> None:
    tree, other = ({} if blob is None else {PATH: blob} for blob in (expected, found))
    explainer = TreeExplainer(tree, other, contents_of(snapshot(entries)))
    (difference,) = explainer.differences([PATH])
    assert (difference.aspect, difference.form, difference.clause) == words
