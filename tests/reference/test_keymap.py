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


def test_kmap_3_a_key_whose_hll_is_not_wanted_has_its_line_among_the_strings() -> None:
    entries = [put(HLL + LONG, 1, b"h"), put(STR + LONG, 1, b"s"), put(STR + b"b64.a", 1, b"s")]
    for only, keys in (({"strings"}, [LONG, b"b64.a"]), ({"hll"}, [LONG])):
        lines = files_of(*entries, only=only)["KEYMAP.jsonl"].splitlines()
        assert [json.loads(line)["encoded"] for line in lines] == [segment_of(key) for key in keys]
