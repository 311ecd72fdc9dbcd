"""The gate between spec, code and tests, and the spec's worked examples."""

import re
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ekvdump.cli import exit_statuses
from ekvdump.engine.first_pass import run_first_pass
from ekvdump.engine.versions import first_suffix_shown
from ekvdump.verify.findings import FINDINGS
from ekvformat import keys
from ekvformat.conventions import Cursor
from ekvformat.outcomes import FAULTS, WARNINGS, Counters, Fault
from ekvformat.redis_hlls import decode_hll_value
from ekvformat.redis_strings import decode_string_value
from ekvformat.redis_ttls import decode_ttl_value
from harness import MemorySource, decode_in_memory


ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "spec").glob("[0-9][0-9]-*.md"))
DEFINITION = re.compile(r"^\*\*([A-Z]{4}-[0-9]+)\*\* · (MUST|SHOULD|MAY|defines|retired) · ", re.MULTILINE)
DIVERGENCE = re.compile(r"^\| \*\*(DIVR-[0-9]+)\*\* \|", re.MULTILINE)
CITATION = re.compile(r"\b([A-Z]{4}-[0-9]+)\b")
CLAIMS = re.compile(r"\bdef test_((?:[a-z]{4}_[0-9]+_)+)")
HEX_BLOCK = re.compile(r"^```hex ([a-z0-9-]+)\n(.*?)^```", re.MULTILINE | re.DOTALL)

SPEC_TEXT = {chapter: chapter.read_text() for chapter in CHAPTERS}
DEFINED = [match.groups() for text in SPEC_TEXT.values() for match in DEFINITION.finditer(text)]
DIVERGENCES = [match[1] for text in SPEC_TEXT.values() for match in DIVERGENCE.finditer(text)]
IDS = {name for name, _ in DEFINED} | set(DIVERGENCES)
CHAPTER_IDS = {name.split("-")[0] for name in IDS}


def python_files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


def citations(text: str) -> set[str]:
    """Clause IDs in a text; a word that only looks like one begins with no chapter's letters."""
    return {name for name in CITATION.findall(text) if name.split("-")[0] in CHAPTER_IDS}


# ---- the gate ----


def test_the_gate_sees_the_whole_spec() -> None:
    assert len(CHAPTERS) == 17
    assert len(CHAPTER_IDS) == 17
    assert len(DEFINED) > 190
    marked = sum(text.count("\n**") for text in SPEC_TEXT.values())
    assert marked == len(DEFINED), "a line that begins in bold and is no clause"


def test_no_id_is_defined_twice_and_none_is_left_out() -> None:
    counts = Counter([name for name, _ in DEFINED] + DIVERGENCES)
    assert [name for name, count in counts.items() if count > 1] == []
    for chapter in CHAPTER_IDS:
        numbers = sorted(int(name.split("-")[1]) for name in IDS if name.startswith(chapter))
        assert numbers == list(range(1, len(numbers) + 1)), f"{chapter}: IDs are append-only, none is missing"


def test_each_chapter_defines_only_its_own_clauses() -> None:
    for text in SPEC_TEXT.values():
        letters = re.match(r"# ([A-Z]{4}): ", text)
        assert letters
        assert {name.split("-")[0] for name, _ in DEFINITION.findall(text)} <= {letters[1]}


@pytest.mark.parametrize("folder", ["reference", "command", "conformance", "tests", "spec"])
def test_every_citation_is_of_a_clause_that_exists(folder: str) -> None:
    texts = [path.read_text() for path in (python_files(folder) if folder != "spec" else CHAPTERS)]
    assert sorted(set().union(*map(citations, texts)) - IDS) == []


def test_every_module_of_a_chapter_cites_its_clauses() -> None:
    for chapter in CHAPTERS:
        letters = SPEC_TEXT[chapter][2:6]
        # What a judge lets pass is the judge's; all other chapters are the decoders'.
        folders = ("conformance",) if letters == "TOLE" else ("reference", "command")
        texts = [path.read_text() for folder in folders for path in python_files(folder)]
        claim = re.compile(rf"Implements (?:[a-z ]+ of )?spec chapter {letters}[.,:]")
        texts = [text for text in texts if claim.search(text)]
        assert bool(texts) == (letters != "DIVR"), "divergences are not ours"
        for text in texts:
            assert letters in {name.split("-")[0] for name in citations(text)}


def test_every_must_clause_has_a_test_named_after_it_or_citing_it() -> None:
    cited: set[str] = set()
    for path in python_files("tests"):
        # A docstring of the writer or the model proves nothing, and this file cites all of them.
        if path.name.startswith("test_") and path != Path(__file__):
            text = path.read_text()
            claims = re.findall(r"([a-z]{4})_([0-9]+)_", "".join(CLAIMS.findall(text)))
            cited |= citations(text) | {f"{letters.upper()}-{number}" for letters, number in claims}
    assert [name for name, level in DEFINED if level == "MUST" and name not in cited] == []


def test_a_must_sentence_stands_in_a_clause() -> None:
    for chapter, text in SPEC_TEXT.items():
        prose = "\n".join(
            paragraph
            for paragraph in re.split(r"\n\n+", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
            if not paragraph.startswith(("**", "> "))
        )
        assert re.findall(r"\b(?:MUST|SHOULD)\b", prose) == [], f"{chapter.name}: a rule without an ID"


def test_only_tree_writes_and_only_snapshot_file_reads_a_snapshot() -> None:
    calls = re.compile(
        r"\bos\.(open|mkdir|unlink|rename|replace|link|symlink|write|ftruncate|truncate|fchmod|chmod|pread)\b"
    )
    using = {
        path.stem: set(calls.findall(path.read_text()))
        for path in python_files("command")
        if calls.search(path.read_text())
    }
    assert using.pop("source") == {"open", "pread"}
    # What the writer does it does through open directories.
    assert using.pop("directories") >= {"open", "mkdir", "unlink", "rename", "write"}
    assert using.pop("by_path") == {"open", "mkdir", "unlink", "replace"}
    assert using.pop("reading") == {"open"}
    assert using.pop("tree_writer") == {"mkdir", "ftruncate", "fchmod"}
    assert using.pop("verification") == {"unlink"}, "of its own temporary files"
    assert using.pop("streams") == {"open"}, "of the null device"
    assert using == {}


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
    for line in SPEC_TEXT[ROOT / "spec" / "04-keys.md"].splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 3 and "`!" in cells[1] and cells[0] not in ("unknown", "bare"):
            prose[cells[0]] = tuple(prefix.replace("\\|", "|") for prefix in re.findall(r"`([^`]+)`", cells[1]))
    assert prose == companion


def test_outc_6_faults_and_exit_statuses_are_the_same_in_all_three_places() -> None:
    table = tomllib.loads((ROOT / "spec" / "outcomes.toml").read_text())
    assert FAULTS | dict.fromkeys(FINDINGS, exit_statuses.EXIT_FINDINGS) == table["faults"]
    exits = {
        name.removeprefix("EXIT_").lower().replace("_", "-"): value
        for name, value in vars(exit_statuses).items()
        if name.startswith("EXIT_")
    }
    assert exits == table["exit"]

    prose = SPEC_TEXT[ROOT / "spec" / "13-outcomes.md"]
    assert {
        name: int(code) for name, code in re.findall(r"^\| `([a-z-]+)` \|.*\| ([0-9]+) \|$", prose, re.MULTILINE)
    } == {name: code for name, code in table["faults"].items() if code != 1}
    findings = prose.split("Readers of a dump have faults")[1].split("**OUTC-1**")[0]
    assert set(re.findall(r"`([a-z-]+)`", findings)) == {name for name, code in table["faults"].items() if code == 1}
    exit_table = prose.split("## Exit status")[1].split("**OUTC-6**")[0]
    assert [int(code) for code in re.findall(r"^\| ([0-9]+) \|", exit_table, re.MULTILINE)] == list(
        table["exit"].values()
    )


def test_outc_9_warnings_are_the_same_in_prose_and_companion() -> None:
    table = tomllib.loads((ROOT / "spec" / "outcomes.toml").read_text())["warnings"]
    prose = SPEC_TEXT[ROOT / "spec" / "13-outcomes.md"]
    rows = re.findall(r"^\| `([a-z-]+)` \| ([A-Z]{4}-[0-9]+) \| (yes|no) \|$", prose, re.MULTILINE)
    assert {name: {"clause": clause, "partial": partial == "yes"} for name, clause, partial in rows} == table
    assert {name: kind.makes_partial for name, kind in WARNINGS.items()} == {
        name: each["partial"] for name, each in table.items()
    }


def test_outc_14_counters_are_the_same_in_code_and_companion() -> None:
    table = tomllib.loads((ROOT / "spec" / "outcomes.toml").read_text())["counters"]
    names = {group: list(counts) for group, counts in vars(Counters()).items()}
    assert names.pop("undecoded") == list(keys.UNDECODED)
    assert names == table


# ---- worked examples ----


def hex_blocks() -> dict[str, bytes]:
    found = {}
    for text in SPEC_TEXT.values():
        for name, lines in HEX_BLOCK.findall(text):
            assert name not in found
            found[name] = b"".join(
                bytes.fromhex(line.split("  ")[0]) for line in lines.splitlines() if line and line[0] != " "
            )
    return found


def decode_text(data: bytes) -> tuple[bytes, int]:
    cursor = Cursor(data, "truncated")
    return cursor.take(2, "text", "CONV-5"), int.from_bytes(cursor.take(4, "number", "CONV-5"), "big")


def operational_rows(data: bytes) -> tuple[int, int | None]:
    found = run_first_pass(MemorySource(data))
    return found.counters.entries["operational"], found.applied_index


def unreadable_clause(data: bytes) -> str:
    with pytest.raises(Fault, match=r"^invalid-value") as refusal:
        decode_string_value(data)
    return refusal.value.clause


EXAMPLES: dict[str, tuple[Callable[[bytes], Any], Any]] = {
    "conv-example": (decode_text, (b"!r", 42)),
    "file-empty": (lambda data: decode_in_memory(data)[1], {}),
    "file-header-v2": (lambda data: (len(data), decode_in_memory(data)[1]), (48, {})),
    "file-one-entry": (lambda data: decode_in_memory(data)[1], {"redis/db_0/strings/a.bin": b"hi"}),
    "visi-operational": (operational_rows, (2, 10_000)),
    "visi-entry": (lambda data: (data[:1], data[1:9] == first_suffix_shown(30), data[18:]), (b"a", True, b"new")),
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
