"""Chapter MANI, its reading half: a MANIFEST.json of any version and origin."""

import json
import re
from datetime import datetime

import pytest
from ekvdump.verify.manifest import decode_manifest, is_rfc3339_time, require_known_version
from ekvformat.manifest import is_utc_time
from ekvformat.outcomes import Fault
from hypothesis import given
from hypothesis import strategies as st
from manifests import EXAMPLE, edited


def refused(manifest: object) -> tuple[str, str]:
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    with pytest.raises(Fault) as caught:
        decode_manifest(text, "out/MANIFEST.json")
    assert caught.value.path == "out/MANIFEST.json"
    assert caught.value.detail
    return caught.value.name, caught.value.clause


LIVE = edited(phase="phase1-live-pinned", source=..., live={"read_ts": 5, "pin_token_sha256": "x"})


@pytest.mark.parametrize("version", [..., None, "1", 1.0, True, [1]], ids=repr)
def test_read_14_a_version_that_is_none_is_invalid(version: object) -> None:
    assert refused(edited(format_version=version)) == ("invalid-manifest", "READ-14")


@pytest.mark.parametrize("version", [0, 2, -1, 10**30])
def test_read_14_another_version_is_unsupported_whatever_the_rest(version: int) -> None:
    unknown = {"format_version": version, "phase": 7, "adapters": "of another kind"}
    assert refused(unknown) == ("unsupported-manifest", "READ-14")
    assert refused(edited(format_version=version)) == ("unsupported-manifest", "READ-14")


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b"{} {}", b"{}x", b'{"x":NaN}', b'{"x":-Infinity}'],
    ids=range(10),
)  # fmt: skip
def test_read_13_anything_but_one_object_is_invalid(text: bytes) -> None:
    assert refused(text) == ("invalid-manifest", "READ-13")


def test_read_13_trailing_bytes_are_invalid_and_white_space_is_not() -> None:
    assert refused(EXAMPLE.encode() + b"x") == ("invalid-manifest", "READ-13")
    assert decode_manifest(EXAMPLE.encode() + b" \r\n\t")


def test_read_12_a_text_of_more_than_16_mib_is_not_read() -> None:
    assert refused(b" " * (16 * 1024 * 1024 + 1)) == ("invalid-manifest", "READ-12")


def test_read_23_unknown_members_are_ignored() -> None:
    assert decode_manifest(json.dumps(edited(of_tomorrow=[1], exclusions__more=True)).encode())["of_tomorrow"] == [1]


@pytest.mark.parametrize("phase", [..., None, "", "phase2", ["phase0-snapshot-decode"]], ids=repr)
def test_read_15_an_unknown_phase_is_invalid(phase: object) -> None:
    assert refused(edited(phase=phase)) == ("invalid-manifest", "READ-15")


@pytest.mark.parametrize(
    "time", [..., None, "", 5, "2026-08-22", "2026-08-22T12:00:00", "2026-13-22T12:00:00Z", "2026-08-22T12:00:00.Z",
     "2026-08-22T12:00:00+05:60", "2026-08-22T12:00:00+24:00", "2026-08-22T12:00:60Z", "0000-08-22T12:00:00Z",
     "2026-08-22T12:00:00.1234567890Z"],
    ids=repr,
)  # fmt: skip
def test_read_16_a_time_that_is_none_is_invalid(time: object) -> None:
    assert refused(edited(wall_time_iso=time)) == ("invalid-manifest", "READ-16")


@pytest.mark.parametrize(
    "time", ["2026-08-22T12:00:00Z", "2026-08-22t12:00:00.123456789z", "2024-02-29T23:59:59+05:30"]
)
def test_read_16_rfc_3339_up_to_nanoseconds(time: str) -> None:
    assert decode_manifest(json.dumps(edited(wall_time_iso=time)).encode())
    assert is_rfc3339_time(time)
    assert is_utc_time(time) == time.endswith("Z")


@given(st.datetimes(timezones=st.timezones()))
def test_read_16_every_time_that_python_writes(time: datetime) -> None:
    text = time.isoformat()
    # Historical zones have seconds in their offset, which RFC 3339 has not.
    assert is_rfc3339_time(text) or re.search(r"[+-]\d\d:\d\d:\d\d", text)


@pytest.mark.parametrize("member", ["adapters", "exclusions"])
@pytest.mark.parametrize("value", [..., None, [], "x"], ids=repr)
def test_read_17_adapters_and_exclusions_are_objects(member: str, value: object) -> None:
    assert refused(edited(**{member: value})) == ("invalid-manifest", "READ-17")


@pytest.mark.parametrize(
    "flag", ["include_incomplete_uploads", "include_orphans", "preserve_sqs_visibility", "include_sqs_side_records"]
)
@pytest.mark.parametrize("value", [..., None, 0, "false"], ids=repr)
def test_read_18_each_required_exclusion_is_a_boolean(flag: str, value: object) -> None:
    assert refused(edited(**{f"exclusions__{flag}": value})) == ("invalid-manifest", "READ-18")
    assert decode_manifest(json.dumps(edited(**{f"exclusions__{flag}": True})).encode())


@pytest.mark.parametrize(
    ("member", "value"),
    [
        *(
            (member, value)
            for member in (
                "checksum_algorithm", "checksum_format", "encoded_filename_charset", "s3_meta_suffix",
                "s3_collision_strategy", "dynamodb_layout",
            )
            for value in (..., None, "", 1)
        ),
        *(("key_segment_max_bytes", value) for value in (..., None, 0, -1, "240", True, 240.5)),
    ],
    ids=repr,
)  # fmt: skip
def test_read_19_a_policy_member_is_not_empty(member: str, value: object) -> None:
    assert refused(edited(**{member: value})) == ("invalid-manifest", "READ-19")


def test_read_20_phase_0_has_no_live() -> None:
    assert refused(edited(live={"read_ts": 5})) == ("invalid-manifest", "READ-20")
    assert decode_manifest(json.dumps(edited(live=None)).encode())


def test_read_21_phase_1_has_no_source() -> None:
    assert decode_manifest(json.dumps(LIVE).encode())["phase"] == "phase1-live-pinned"
    assert decode_manifest(json.dumps(LIVE | {"source": None}).encode())
    assert refused(LIVE | {"source": {"fsm_path": "x"}}) == ("invalid-manifest", "READ-21")


@pytest.mark.parametrize("live", [None, {}, [], {"read_ts": 0}, {"read_ts": None}, {"read_ts": "5"}], ids=repr)
def test_read_22_phase_1_has_live_with_a_read_ts(live: object) -> None:
    assert refused(LIVE | {"live": live}) == ("invalid-manifest", "READ-22")


def test_read_14_a_reader_that_has_no_path_names_the_file() -> None:
    for refuse in (lambda: decode_manifest(b""), lambda: require_known_version(None), lambda: require_known_version(2)):
        with pytest.raises(Fault) as caught:
            refuse()
        assert caught.value.path == "MANIFEST.json"


def test_mani_1_the_specs_example_is_read() -> None:
    assert decode_manifest(EXAMPLE.encode()) == json.loads(EXAMPLE)
