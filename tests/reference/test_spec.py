"""The gate between spec, code and tests, and the spec's worked examples."""

import re
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import golden
import pytest
from ekvdump import exit_statuses
from ekvdump.verify.findings import FINDINGS
from ekvformat import keys, outcomes
from ekvformat.conventions import Cursor
from ekvformat.decode import decode
from ekvformat.outcomes import FAULTS, WARNINGS, Counters, Fault
from ekvformat.redis_hlls import decode_hll_value
from ekvformat.redis_strings import decode_string_value
from ekvformat.redis_ttls import decode_ttl_value
from ekvformat.snapshot_file import Entry, decode_snapshot_file
from ekvformat.visibility import applied_index_of, decode_version, is_operational
from reference_runs import all_files

from spec import (
    CHAPTER_IDS,
    CHAPTERS,
    DEFINED,
    DEFINITION,
    DIVERGENCES,
    IDS,
    ROOT,
    TEXTS,
    citations,
    hex_blocks,
    python_files,
    text_of,
)

CLAIMS = re.compile(r"\bdef test_((?:[a-z]{4}_[0-9]+_)+)")
IMPLEMENTS = r"Implements (?:the reading half of )?spec chapter {}[.,:]"
TABLES = tomllib.loads((ROOT / "spec" / "outcomes.toml").read_text())


# ---- the gate ----


def test_the_gate_sees_the_whole_spec() -> None:
    assert len(CHAPTERS) == 18
    assert len(CHAPTER_IDS) == 18
    assert len(DEFINED) > 190
    marked = sum(text.count("\n**") for text in TEXTS.values())
    assert marked == len(DEFINED), "a line that begins in bold and is no clause"


def test_no_id_is_defined_twice_and_none_is_left_out() -> None:
    counts = Counter([name for name, _ in DEFINED] + DIVERGENCES)
    assert [name for name, count in counts.items() if count > 1] == []
    for chapter in CHAPTER_IDS:
        numbers = sorted(int(name.split("-")[1]) for name in IDS if name.startswith(chapter))
        assert numbers == list(range(1, len(numbers) + 1)), f"{chapter}: IDs are append-only, none is missing"


def test_each_chapter_defines_only_its_own_clauses() -> None:
    for text in TEXTS.values():
        letters = re.match(r"# ([A-Z]{4}): ", text)
        assert letters
        assert {name.split("-")[0] for name, _ in DEFINITION.findall(text)} <= {letters[1]}


@pytest.mark.parametrize("directory", ["reference", "command", "conformance", "tests", "spec"])
def test_every_citation_is_of_a_clause_that_exists(directory: str) -> None:
    texts = [path.read_text() for path in (python_files(directory) if directory != "spec" else CHAPTERS)]
    assert sorted(set().union(*map(citations, texts)) - IDS) == []


def modules_of(letters: str, directory: str) -> list[str]:
    """Return the texts of the modules that say that they implement a chapter."""
    texts = [path.read_text() for path in python_files(directory)]
    return [text for text in texts if re.search(IMPLEMENTS.format(letters), text)]


@pytest.mark.parametrize("letters", sorted(CHAPTER_IDS))
def test_every_chapter_has_a_module_that_cites_its_clauses(letters: str) -> None:
    if letters == "DIVR":
        # What the production decoder does otherwise is implemented nowhere here.
        assert [modules_of(letters, directory) for directory in ("reference", "command", "conformance")] == [[]] * 3
        return
    # Only the command reads dumps, and tolerances are the judge's.
    directory = {"VERI": "command/ekvdump/verify", "TOLE": "conformance"}.get(letters, "reference")
    modules = modules_of(letters, directory)
    assert modules
    for text in modules:
        assert letters in {name.split("-")[0] for name in citations(text)}


@pytest.mark.parametrize("letters", ["SEGM", "KMAP", "MANI", "SUMS"])
def test_the_command_reads_what_the_reference_writes(letters: str) -> None:
    assert len(modules_of(letters, "reference")) == 1
    assert len(modules_of(letters, "command/ekvdump/verify")) == 1


def test_the_modules_of_the_reference_are_the_chapters_in_their_order() -> None:
    """The docstring of the package lists them in the order in which they are to be read."""
    listed = re.findall(
        r"^    ([a-z_]+) +([A-Z]{4}) ", (ROOT / "reference/ekvformat/__init__.py").read_text(), re.MULTILINE
    )
    for module, letters in listed:
        text = (ROOT / "reference" / "ekvformat" / f"{module}.py").read_text()
        assert re.search(IMPLEMENTS.format(letters), text), module
    assert {letters for _, letters in listed} == CHAPTER_IDS - {"DIVR", "VERI", "TOLE"}


def test_every_must_clause_has_a_golden_case_or_a_test_that_cites_it() -> None:
    cited = {name for case in golden.EVERY for name in case.clauses}
    for path in python_files("tests"):
        # A docstring of the writer or the model proves nothing, and this file cites clauses of every kind.
        if path.name.startswith("test_") and path != Path(__file__):
            text = path.read_text()
            claims = re.findall(r"([a-z]{4})_([0-9]+)_", "".join(CLAIMS.findall(text)))
            cited |= citations(text) | {f"{letters.upper()}-{number}" for letters, number in claims}
    assert [name for name, level in DEFINED if level == "MUST" and name not in cited] == []


def test_a_must_sentence_stands_in_a_clause() -> None:
    for chapter, text in TEXTS.items():
        prose = "\n".join(
            paragraph
            for paragraph in re.split(r"\n\n+", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
            if not paragraph.startswith(("**", "> "))
        )
        assert re.findall(r"\b(?:MUST|SHOULD)\b", prose) == [], f"{chapter.name}: a rule without an ID"


# ---- the companions ----


def test_keys_1_the_prefix_table_is_the_same_in_all_three_places() -> None:
    table = tomllib.loads((ROOT / "spec" / "keys.toml").read_text())
    companion = {name: tuple(prefixes) for group in table.values() for name, prefixes in group.items()}

    reference = {name: tuple(p.decode() for p in prefixes) for name, prefixes in keys.PREFIXES.items()}
    assert reference.pop(keys.UNKNOWN) == ("!",)
    assert reference.pop(keys.BARE) == ("",)
    assert reference == companion
    assert list(table["undecoded"]) == list(keys.UNDECODED)

    prose = {}
    for line in text_of("04-keys.md").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 3 and "`!" in cells[1] and cells[0] not in ("unknown", "bare"):
            prose[cells[0]] = tuple(prefix.replace("\\|", "|") for prefix in re.findall(r"`([^`]+)`", cells[1]))
    assert prose == companion


def exits_of(module: ModuleType) -> dict[str, int]:
    """Return the exit statuses that a module names."""
    return {
        name.removeprefix("EXIT_").lower().replace("_", "-"): value
        for name, value in vars(module).items()
        if name.startswith("EXIT_")
    }


def test_outc_6_faults_and_exit_statuses_are_the_same_in_all_three_places() -> None:
    assert FAULTS | dict.fromkeys(FINDINGS, exit_statuses.EXIT_FINDINGS) == TABLES["faults"]
    exits = exits_of(exit_statuses)
    assert exits == TABLES["exit"]
    assert exits_of(outcomes).items() <= exits.items()

    prose = text_of("13-outcomes.md")
    assert {
        name: int(code) for name, code in re.findall(r"^\| `([a-z-]+)` \|.*\| ([0-9]+) \|$", prose, re.MULTILINE)
    } == {name: code for name, code in TABLES["faults"].items() if code != 1}
    findings = prose.split("Readers of a dump have faults")[1].split("**OUTC-1**")[0]
    assert set(re.findall(r"`([a-z-]+)`", findings)) == {name for name, code in TABLES["faults"].items() if code == 1}
    exit_table = prose.split("## Exit status")[1].split("**OUTC-6**")[0]
    assert [int(code) for code in re.findall(r"^\| ([0-9]+) \|", exit_table, re.MULTILINE)] == list(exits.values())


def test_outc_9_warnings_are_the_same_in_prose_and_companion() -> None:
    table = TABLES["warnings"]
    prose = text_of("13-outcomes.md")
    rows = re.findall(r"^\| `([a-z-]+)` \| ([A-Z]{4}-[0-9]+) \| (yes|no) \|$", prose, re.MULTILINE)
    assert {name: {"clause": clause, "partial": partial == "yes"} for name, clause, partial in rows} == table
    assert {name: kind.makes_partial for name, kind in WARNINGS.items()} == {
        name: each["partial"] for name, each in table.items()
    }


def test_outc_14_counters_are_the_same_in_code_and_companion() -> None:
    table = TABLES["counters"]
    names = {group: list(counts) for group, counts in vars(Counters()).items()}
    assert names.pop("undecoded") == list(keys.UNDECODED)
    assert names == table


FATE_COLUMNS = {
    "wanted": "wanted", "value": "value", "TTL row": "row", "same key": "beside", "would decide about": "decides",
    "consent": "consent", "blob": "blob", "line": "line",
}  # fmt: skip
"""Column of the tables in prose = member of a line in the companion."""


def fates_in_prose(title: str) -> list[dict[str, Any]]:
    """Return the lines of one table of chapter FATE, as the companion has them."""
    section = text_of("18-fates.md").split(f"## {title}\n")[1].split("\n## ")[0]
    table = [line.strip("|").split("|") for line in section.split("\n") if line]
    heads, _, *rows = [[cell.strip(" `/") for cell in row] for row in table]
    lines = []
    for row in rows:
        cells = dict(zip(heads, row, strict=True))
        line: dict[str, Any] = {name: cells[head] for head, name in FATE_COLUMNS.items() if cells.get(head)}
        result, _, clause = cells["result"].partition(", ")
        line |= {"refused": clause} if clause else {"counter": result}
        if cells["row of the expiry"]:
            line["expiry"], line["sidecar"] = cells["row of the expiry"].replace("`", "").split("'s, ")
        if cells["KEYMAP"]:
            line["keymap"] = cells["KEYMAP"] == "yes"
        lines.append(line | {"clauses": cells["rules"].split(", ")})
    return lines


def test_fate_1_the_tables_are_the_same_in_prose_and_companion() -> None:
    table = tomllib.loads((ROOT / "spec" / "fate.toml").read_text())
    titles = {"string": "Prefixed strings", "bare": "Bare strings", "hll": "HLLs", "ttl": "TTL rows"}
    assert {kind: fates_in_prose(title) for kind, title in titles.items()} == table


# ---- worked examples ----


def text_and_number(data: bytes) -> tuple[bytes, int]:
    cursor = Cursor(data, "truncated")
    return cursor.take(2, "text", "CONV-5"), cursor.u32_be("number", "CONV-5")


def files(data: bytes) -> dict[str, bytes]:
    return all_files(decode(data))


def operational_rows(data: bytes) -> tuple[int, int | None]:
    entries = decode_snapshot_file(data).entries
    return sum(is_operational(entry) for entry in entries), applied_index_of(entries)


def version(data: bytes) -> tuple[bytes, int, bytes]:
    found = decode_version(Entry(data[:9], 0, data[9:], 9))
    return found.storage_key, found.commit_ts, found.body


def unreadable_clause(data: bytes) -> str:
    with pytest.raises(Fault, match=r"^invalid-value") as refusal:
        decode_string_value(data)
    return refusal.value.clause


EXAMPLES: dict[str, tuple[Callable[[bytes], Any], Any]] = {
    "conv-example": (text_and_number, (b"!r", 42)),
    "file-empty": (files, {}),
    "file-header-v2": (lambda data: (len(data), files(data)), (48, {})),
    "file-one-entry": (files, {"redis/db_0/strings/a.bin": b"hi"}),
    "visi-operational": (operational_rows, (2, 10_000)),
    "visi-entry": (version, (b"a", 30, b"new")),
    "keys-lookalike": (lambda data: (data.startswith(b"!redis|str|"), keys.type_of(data[:-8])), (True, keys.UNKNOWN)),
    "rstr-envelope-with-expiry": (decode_string_value, (b"hi", 1_700_000_000_000)),
    "rstr-envelope-without-expiry": (decode_string_value, (b"", None)),
    "rstr-legacy": (decode_string_value, (b"\xff", None)),
    "rstr-unreadable": (unreadable_clause, "RSTR-4"),
    "salv-unreadable": (unreadable_clause, "RSTR-3"),
    "rhll-envelope": (decode_hll_value, (b"HY", None)),
    "rttl-row": (decode_ttl_value, 1_700_000_000_000),
}


def test_every_hex_example_is_decoded_here() -> None:
    assert set(hex_blocks()) == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_worked_example_means_what_the_spec_says(name: str) -> None:
    decode, meaning = EXAMPLES[name]
    assert decode(hex_blocks()[name]) == meaning
