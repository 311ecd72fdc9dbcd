"""Chapter COLL: fields of messages that their type does not have are ignored. [COLL-12]"""

import json
import struct

import pytest
from collection_stores import sized, text_field
from reference_runs import files_of
from writer import put

OTHERS = b"\x18\x05" + b"\x21" + bytes(8) + b"\x2d" + bytes(4) + text_field(6, b"other") + b"\x08\x01"
"""Fields 3 to 6 of each wire type, and field 1 of another one than it has."""


@pytest.mark.parametrize(
    ("type_", "magic", "element", "path", "shown"),
    [
        ("hash", b"\0RH\1", OTHERS + text_field(1, b"n") + OTHERS + text_field(2, b"v"), "hashes/k.json",
         {"fields": [{"name": "n", "value": "v"}]}),
        ("set", b"\0RS\1", b"m", "sets/k.json", {"members": ["m"]}),
        ("zset", b"\0RZ\1", OTHERS + text_field(1, b"m") + OTHERS + b"\x11" + struct.pack("<d", 1), "zsets/k.json",
         {"members": [{"member": "m", "score": 1}]}),
    ],
)  # fmt: skip
def test_coll_12_other_fields_of_packed_records_are_ignored(
    type_: str, magic: bytes, element: bytes, path: str, shown: dict[str, object]
) -> None:
    body = magic + OTHERS + text_field(1, element) + OTHERS
    (document,) = files_of(put(b"!redis|" + type_.encode() + b"|k", 1, body)).items()
    assert document[0] == path
    assert json.loads(document[1]) == {"format_version": 1, **shown, "expire_at_ms": None}


def test_coll_12_other_fields_of_elements_of_streams_are_ignored() -> None:
    body = b"\0RXE\1" + OTHERS + text_field(1, b"1-0") + text_field(2, b"n") + OTHERS + text_field(2, b"v")
    place = struct.pack(">QQ", 1, 0)
    meta = put(b"!stream|meta|" + sized(b"k"), 1, struct.pack(">QQQ", 1, 1, 0))
    (blob,) = files_of(meta, put(b"!stream|entry|" + sized(b"k") + place, 1, body)).values()
    assert blob.splitlines()[0] == b'{"id":"1-0","fields":[{"name":"n","value":"v"}]}'
