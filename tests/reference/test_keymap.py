"""Chapter KMAP: KEYMAP.jsonl."""

import json

from ekvformat.keymap import render_keymap_line
from hypothesis import given
from hypothesis import strategies as st
from model import base64url, segment_of
from reference_runs import files_of
from writer import HLL, STR, put

LONG = b"%" * 81
"""A key that is shown under a fallback segment."""


@given(st.binary(max_size=400))
def test_kmap_1_a_line_is_compact_json_with_three_members(key: bytes) -> None:
    line = render_keymap_line(segment_of(key), key)
    members = {"encoded": segment_of(key), "original": base64url(key), "kind": "sha-fallback"}
    assert line.decode() == json.dumps(members, separators=(",", ":")) + "\n"


def test_kmap_1_a_key_has_a_line_if_its_type_is_wanted_and_shown() -> None:
    entries = [put(HLL + LONG, 1, b"h"), put(STR + LONG, 1, b"s"), put(HLL + b"b64.a", 1, b"h")]
    for only, keys in (({"strings"}, [LONG]), ({"hll"}, [b"b64.a"]), ({"strings", "hll"}, [b"b64.a", LONG])):
        lines = files_of(*entries, only=only)["KEYMAP.jsonl"].splitlines()
        assert [json.loads(line)["encoded"] for line in lines] == [segment_of(key) for key in keys]
