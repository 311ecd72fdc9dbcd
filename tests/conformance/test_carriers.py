"""A case means the same in every kind of file that it can come in."""

import golden
import pytest
from ekvconform.cases.carriers import (
    BARE_PAYLOAD,
    CARRIERS,
    HEADER_AND_FOOTER,
    NODE_FILE,
    ONE_A_CHAPTER,
    PAYLOAD_WITH_FOOTER,
    carried_cases,
    carry,
)
from ekvconform.cases.contents import OPERATIONAL, contents_of
from ekvconform.cases.golden_cases import Case

BY_ID = {case.id: case for case in golden.EVERY}


@pytest.mark.parametrize("carrier", CARRIERS)
def test_the_reference_passes_in_every_carrier(carrier: str) -> None:
    carried = [carry(case, carrier) for case in golden.IN_MEMORY]
    assert sum(case.carrier == carrier for case in carried) > 100 or carrier == HEADER_AND_FOOTER
    for case in carried:
        golden.check_in_memory(case)


@pytest.mark.parametrize(
    ("carrier", "start", "row_count", "warnings"),
    [
        (NODE_FILE, b"EKVTHLC1", 3, {}),
        (HEADER_AND_FOOTER, b"EKVTHLC1", 0, {}),
        (PAYLOAD_WITH_FOOTER, b"EKVPBBL1", 0, {}),
        (BARE_PAYLOAD, b"EKVPBBL1", 0, {"no-footer": 1}),
    ],
)
def test_a_carrier_has_its_parts(carrier: str, start: bytes, row_count: int, warnings: dict[str, int]) -> None:
    case = carry(BY_ID["rstr-envelope"], carrier)
    data = case.scene.snapshot or b""
    assert data.startswith(start)
    assert sum(content.fate == OPERATIONAL for content in contents_of(data)) == row_count
    assert case.expected.warnings == warnings


@pytest.mark.parametrize(
    ("case_id", "carrier", "kept"),
    [
        ("file-header-v1", BARE_PAYLOAD, b"EKVTHLC1"),
        ("file-header-v2-without-footer", BARE_PAYLOAD, b"EKVTHLC2"),
        ("mani-crc-of-the-footer", NODE_FILE, b"EKVTHLC1"),
    ],
)
def test_what_a_case_is_about_stays_as_it_is_written(case_id: str, carrier: str, kept: bytes) -> None:
    case = BY_ID[case_id]
    assert carry(case, carrier) == case
    assert (case.scene.snapshot or b"").startswith(kept)


def offset_of(case: Case) -> int:
    assert case.expected.offset is not None
    return case.expected.offset


def test_offsets_are_those_of_the_carrier() -> None:
    case = BY_ID["envl-envelope-without-flags"]
    bare, node = carry(case, BARE_PAYLOAD), carry(case, NODE_FILE)
    assert offset_of(bare) == offset_of(case) - 16
    assert offset_of(node) > offset_of(case)


def test_a_footer_that_a_case_is_about_stays_without_the_header() -> None:
    case = BY_ID["file-footer-mismatch"]
    bare = carry(case, BARE_PAYLOAD)
    assert bare.scene.snapshot == (case.scene.snapshot or b"")[16:]
    assert offset_of(bare) == offset_of(case) - 16


def test_one_case_a_chapter_comes_in_every_carrier_that_is_read() -> None:
    ids = [case.id for case in carried_cases(golden.EVERY, [NODE_FILE, BARE_PAYLOAD])]
    assert [name for name in ids if "@" in name] == [
        f"{name}@{BARE_PAYLOAD}" for name in sorted(ONE_A_CHAPTER, key=ids.index)
    ]
    assert not any("@" in case.id for case in carried_cases(golden.EVERY, [NODE_FILE, BARE_PAYLOAD], is_whole=False))
