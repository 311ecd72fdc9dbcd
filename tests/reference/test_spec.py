"""The gate between spec, code and tests, and the spec's worked examples."""

import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import golden
import pytest
import spec_links
from ekvdump import exit_statuses
from ekvdump.verify.findings import FINDINGS
from ekvexplain.clauses import CLAUSE, load_clauses
from ekvformat import keys, outcomes, user_keys
from ekvformat.completeness import WARNINGS, Counters
from ekvformat.outcomes import FAULTS

from spec import (
    CHAPTER_IDS,
    CHAPTERS,
    DEFINED,
    DEFINITION,
    DIVERGENCE,
    DIVERGENCES,
    IDS,
    ROOT,
    TEXTS,
    citations,
    python_files,
    text_of,
)

CLAIMS = re.compile(r"\bdef test_((?:[a-z]{4}_[0-9]+_)+)")
IMPLEMENTS = r"Implements (?:part of )?spec chapters? (?:[A-Z]{{4}},? (?:and )?)*{}\b"
TABLES = tomllib.loads((ROOT / "spec" / "companions" / "outcomes.toml").read_text())
MUSTS = {clause.id for clause in load_clauses().values() if clause.level == "MUST"}


# ---- the gate ----


def test_the_gate_sees_the_whole_spec() -> None:
    assert len(CHAPTERS) == 32
    assert len(CHAPTER_IDS) == 30
    assert len(DEFINED) > 330
    assert list(load_clauses()) == DEFINED
    for chapter, text in TEXTS.items():
        marked = len(re.findall(r"^(?:<a|\*\*)", text, re.MULTILINE))
        assert marked == len(DEFINITION.findall(text)), f"{chapter.name}: a line in bold that is not a clause"


def test_the_order_of_reading_is_the_order_of_ids() -> None:
    for letters in sorted(CHAPTER_IDS):
        names = [name for name in [*DEFINED, *DIVERGENCES] if name.startswith(letters)]
        assert names == [f"{letters}-{number}" for number in range(1, len(names) + 1)]


def test_each_chapter_defines_only_its_own_clauses() -> None:
    for text in TEXTS.values():
        letters = re.match(r"# (?:([A-Z]{4}): )?", text)
        assert letters
        for anchor, name in DEFINITION.findall(text):
            assert name.split("-")[0] == letters[1]
            assert anchor == name.lower()


@pytest.mark.parametrize("directory", ["reference", "command", "conformance", "tests", "spec"])
def test_every_citation_is_of_a_clause_that_exists(directory: str) -> None:
    texts = [path.read_text() for path in (python_files(directory) if directory != "spec" else CHAPTERS)]
    assert sorted(set().union(*map(citations, texts)) - IDS) == []


def test_every_citation_of_the_example_in_go_is_of_a_clause_that_exists() -> None:
    texts = [path.read_text() for path in (ROOT / "examples" / "decoder-go").glob("*.go")]
    assert len(texts) > 10
    cited = set().union(*map(citations, texts))
    assert len(cited) > 200
    assert sorted(cited - IDS) == []


def test_every_mention_of_a_clause_is_a_link_that_leads_to_it() -> None:
    chapters = spec_links.load_chapters()
    places = spec_links.places_of(chapters)
    assert set(places) == IDS
    for path, text in chapters.items():
        assert path.read_text() == spec_links.render_chapter(path, text, places), f"{path.name} is stale: make spec"
        prose = DEFINITION.sub("", DIVERGENCE.sub("", spec_links.CODE.sub("", text)))
        bare = citations(re.sub(r"\[[A-Z]{4}-[0-9]+\]", "", prose))
        assert path.name == "README.md" or sorted(bare) == [], f"{path.name}: a mention without brackets"


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
    verify = "command/ekvdump/verify"
    directory = {"READ": verify, "VERI": verify, "TOLE": "conformance"}.get(letters, "reference")
    modules = modules_of(letters, directory)
    assert modules
    for text in modules:
        assert letters in {name.split("-")[0] for name in citations(text)}


def test_the_modules_of_the_reference_are_the_chapters_in_their_order() -> None:
    """The docstring of the package lists them in the order in which they are to be read."""
    listed = re.findall(
        r"^    ([a-z_]+|) +([A-Z]{4}) ", (ROOT / "reference/ekvformat/__init__.py").read_text(), re.MULTILINE
    )
    above = ""
    for module, letters in listed:
        above = module or above
        text = (ROOT / "reference" / "ekvformat" / f"{above}.py").read_text()
        assert re.search(IMPLEMENTS.format(letters), text), above
    chapters = [name.split("-")[0] for name in DEFINED]
    assert [letters for _, letters in listed] == [
        letters for letters in dict.fromkeys(chapters) if letters not in ("READ", "VERI", "TOLE")
    ]


def test_every_must_clause_has_a_golden_case_or_a_test_that_cites_it() -> None:
    cited = {name for case in golden.EVERY for name in case.clauses}
    for path in python_files("tests"):
        # A docstring of the writer or the model proves nothing, and this file cites clauses of every kind.
        if path.name.startswith("test_") and path != Path(__file__):
            text = path.read_text()
            claims = re.findall(r"([a-z]{4})_([0-9]+)_", "".join(CLAIMS.findall(text)))
            cited |= citations(text) | {f"{letters.upper()}-{number}" for letters, number in claims}
    assert [name for name in DEFINED if name in MUSTS and name not in cited] == []


def test_a_must_sentence_stands_in_a_clause() -> None:
    for chapter, text in TEXTS.items():
        prose = CLAUSE.sub("", spec_links.CODE.sub("", text))
        prose = re.sub(r"^> .*\n", "", prose, flags=re.MULTILINE)
        assert re.findall(r"\b(?:MUST|SHOULD|MAY)\b", prose) == [], f"{chapter.name}: a rule without an ID"


# ---- the companions ----


def test_keys_1_the_prefix_table_is_the_same_in_all_three_places() -> None:
    table = tomllib.loads((ROOT / "spec" / "companions" / "keys.toml").read_text())
    companion = {name: tuple(prefixes) for group in table.values() for name, prefixes in group.items()}

    reference = {name: tuple(p.decode() for p in prefixes) for name, prefixes in keys.PREFIXES.items()}
    assert reference.pop(keys.UNKNOWN) == ("!",)
    assert reference.pop(keys.BARE) == ("",)
    assert reference == companion
    assert list(table["undecoded"]) == list(keys.UNDECODED)

    prose = {}
    for line in text_of("05-keys.md").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 3 and "`!" in cells[1] and cells[0] not in ("unknown", "bare"):
            prose[cells[0]] = tuple(prefix.replace("\\|", "|") for prefix in re.findall(r"`([^`]+)`", cells[1]))
    assert prose == companion


def test_type_1_type_4_the_tables_are_the_same_in_all_three_places() -> None:
    table = tomllib.loads((ROOT / "spec" / "companions" / "user_keys.toml").read_text())
    code = {
        prefix.decode(): {"kind": shape.kind, "sized": shape.is_sized, "suffix": shape.suffix_size}
        for prefix, shape in user_keys.SHAPES.items()
    }
    assert {prefix: {"suffix": None} | shape for prefix, shape in table["shapes"].items()} == code
    assert [(line["type"], tuple(line["kinds"])) for line in table["precedence"]["lines"]] == list(user_keys.PRECEDENCE)

    prose = text_of("06-user-keys.md")
    shapes, precedence = {}, []
    for line in prose.splitlines():
        cells = [cell.strip(" `").replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4 and cells[0] in keys.COLLECTIONS:
            type_, kind, prefix, then = cells
            assert prefix.encode() in keys.COLLECTIONS[type_]
            size = re.search(r"([0-9]+) bytes", then)
            suffix = int(size[1]) if size else None if "any bytes" in then else 0
            shapes[prefix] = {"kind": kind, "sized": then.startswith("sized"), "suffix": suffix}
        elif len(cells) == 3 and cells[0].isdecimal():
            kinds = tuple(re.findall("meta|delta|element|packed", cells[2])) or ("value",)
            precedence.append(("bare" if "type bare" in cells[2] else cells[1], kinds))
    assert shapes == code
    assert precedence == list(user_keys.PRECEDENCE)


def exits_of(module: ModuleType) -> dict[str, int]:
    """Return the exit statuses that a module names."""
    return {
        name.removeprefix("EXIT_").lower().replace("_", "-"): value
        for name, value in vars(module).items()
        if name.startswith("EXIT_")
    }


def test_outc_7_faults_and_exit_statuses_are_the_same_in_all_three_places() -> None:
    assert FAULTS | dict.fromkeys(FINDINGS, exit_statuses.EXIT_FINDINGS) == TABLES["faults"]
    exits = exits_of(exit_statuses)
    assert exits == TABLES["exit"]
    assert exits_of(outcomes).items() <= exits.items()

    prose = text_of("02-outcomes.md")
    assert {
        name: int(code) for name, code in re.findall(r"^\| `([a-z-]+)` \|.*\| ([0-9]+) \|$", prose, re.MULTILINE)
    } == {name: code for name, code in TABLES["faults"].items() if code != 1}
    findings = prose.split("A reader of a dump has faults")[1].split("**OUTC-1**")[0]
    assert set(re.findall(r"`([a-z-]+)`", findings)) == {name for name, code in TABLES["faults"].items() if code == 1}
    exit_table = prose.split("## Exit status")[1].split("**OUTC-7**")[0]
    assert [int(code) for code in re.findall(r"^\| ([0-9]+) \|", exit_table, re.MULTILINE)] == list(exits.values())


def test_comp_3_warnings_are_the_same_in_prose_and_companion() -> None:
    table = TABLES["warnings"]
    prose = text_of("17-completeness.md")
    rows = re.findall(r"^\| `([a-z-]+)` \| \[([A-Z]{4}-[0-9]+)\] \| (yes|no) \|$", prose, re.MULTILINE)
    assert {name: {"clause": clause, "partial": partial == "yes"} for name, clause, partial in rows} == table
    assert {name: kind.makes_partial for name, kind in WARNINGS.items()} == {
        name: each["partial"] for name, each in table.items()
    }


def test_comp_7_counters_are_the_same_in_code_and_companion() -> None:
    table = TABLES["counters"]
    names = {group: list(counts) for group, counts in vars(Counters()).items()}
    prose = text_of("17-completeness.md").split("**COMP-9**")[1]
    rows = re.findall(r"^\| (`[a-z`, ]+`) \| (`.*`) \|$", prose, re.MULTILINE)
    words = re.compile(r"`([a-z0-9]+)`")
    assert {group: words.findall(row) for groups, row in rows for group in words.findall(groups)} == names
    assert names.pop("undecoded") == list(keys.UNDECODED)
    assert names == table


FATE_COLUMNS = {
    "wanted": "wanted", "body": "body", "TTL record": "ttl_record", "shadowed": "shadowed",
    "would decide about": "would_decide_about", "user key": "user_key", "record": "record", "collection": "collection",
    "salvage": "salvage", "blob": "blob", "line": "line",
}  # fmt: skip
"""Column of the tables in prose = member of a line in the companion."""
SHORT = {"that of its type": "own", "the clause that is broken": "broken"}
"""Words of the tables in prose = those of the companion."""


def fates_in_prose(title: str) -> list[dict[str, Any]]:
    """Return the lines of one table of chapter FATE, as the companion has them."""
    section = text_of("18-fates.md").split(f"## {title}\n")[1].split("\n## ")[0]
    table = [line.strip("|").split("|") for line in section.split("\n") if line]
    heads, _, *rows = [[cell.replace("[", "").replace("]", "").strip(" `/") for cell in row] for row in table]
    lines = []
    for row in rows:
        cells = {head: SHORT.get(cell, cell) for head, cell in zip(heads, row, strict=True)}
        line: dict[str, Any] = {name: cells[head] for head, name in FATE_COLUMNS.items() if cells.get(head)}
        result, _, clause = cells["result"].partition(", ")
        line |= {"refused": SHORT.get(clause, clause)} if clause else {"counter": result}
        if cells.get("expiry"):
            line["expiry"], line["sidecar"] = cells["expiry"].replace("`", "").split("'s, ")
        if cells["KEYMAP"]:
            line["keymap"] = cells["KEYMAP"] == "yes"
        lines.append(line | {"clauses": cells["rules"].split(", ")})
    return lines


def test_fate_1_the_tables_are_the_same_in_prose_and_companion() -> None:
    table = tomllib.loads((ROOT / "spec" / "companions" / "fate.toml").read_text())
    titles = {
        "string": "Prefixed strings", "bare": "Bare strings", "hll": "HLLs", "collection": "Collections",
        "ttl": "TTL records",
    }  # fmt: skip
    assert {kind: fates_in_prose(title) for kind, title in titles.items()} == table
