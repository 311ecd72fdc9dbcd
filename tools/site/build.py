"""Makes the pages of the site from the spec, the fixtures and the READMEs, and lets Zensical build them: `make site`.

page                    made from
----------------------  ---------------------------------------------------------------
index, your own ..      README.md
test your decoder       conformance/README.md
spec/..                 spec/..; behind each clause its cases, mutants and code
cases/<chapter>/<id>    a golden case: what is given, annotated hex, what is expected
clauses                 every clause, its level, and what keeps and breaks it
commands                what `--help` prints
"""

import html
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from ekvconform.cases.golden_cases import Case
from ekvconform.cases.loading import load_cases
from ekvconform.cases.snapshots import render_bytes
from ekvconform.report.records import describe_expected
from ekvdump.cli.arguments import COMMANDS
from ekvexplain.clauses import CHAPTERS, CLAUSE, SPEC, Clause, load_clauses

sys.path.append(str(Path(__file__).resolve().parents[1]))
from traceability import Trace, trace_clauses

ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = Path(__file__).resolve().parent
PAGES: Final = ROOT / "build" / "site-pages"
SITE: Final = ROOT / "build" / "site"
LARGEST: Final = 100_000
"""Largest snapshot, in bytes, that has a download and annotated hex."""
ROOMS: Final = ("reference", "command", "conformance", "explain")
LINK: Final = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s]+)(#[^)]*)?\)")
LAYOUT: Final = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
PUBLISHED: Final = {
    "README.md": "index.md", "conformance/README.md": "test-your-decoder.md", "fixtures/README.md": "fixtures.md",
    "CHANGELOG.md": "changelog.md", "spec/README.md": "spec/index.md",
}  # fmt: skip
"""File of the repository = its page."""


# ---- pages ----


def write(page: str, text: str) -> None:
    """Write a page."""
    path = PAGES / page
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def localized(text: str, source: str, page: str) -> str:
    """Return Markdown with its links led to pages of the site; those to other files lose their link."""
    above = Path(source).parent

    def lead(match: re.Match[str]) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target:
            return match[0]
        file = os.path.normpath(above / target)
        led = PUBLISHED.get(file) or (file if file.startswith("spec/") and (ROOT / file).is_file() else None)
        return f"[{words}]({os.path.relpath(led, Path(page).parent)}{anchor})" if led else words

    return LINK.sub(lead, text)


def trace_of(clause: str, page: str, traces: dict[str, Trace]) -> str:
    """Return what belongs to a clause as a line that opens."""
    cases, mutants, code = traces[clause].cases, traces[clause].mutants, traces[clause].code
    if not (cases or mutants or code):
        return ""
    depth = "../" * page.count("/")
    links = " · ".join(f'<a href="{depth}cases/{case.chapter}/{case.id}.html">{case.id}</a>' for case in cases[:40]) + (
        f" · and {len(cases) - 40} more" if len(cases) > 40 else ""
    )
    broken = "; ".join(html.escape(what) for _, what in mutants)
    parts = [
        f"<p>Cases: {links}</p>" if links else "",
        f"<p>Decoders that break it and are caught: {broken}.</p>" if broken else "",
        f"<p>No case: {html.escape(traces[clause].no_case)}.</p>" if traces[clause].no_case else "",
        f"<p>No such decoder: {html.escape(traces[clause].no_mutant)}.</p>" if traces[clause].no_mutant else "",
        f"<p>Cited by: {', '.join(f'<code>{path}</code>' for path in code)}</p>" if code else "",
    ]  # fmt: skip
    counts = ", ".join(
        f"{len(found)} {name}{'s' * (len(found) != 1)}"
        for name, found in (("case", cases), ("mutant", mutants), ("module", code))
    )
    return f'\n\n<details class="trace"><summary>{clause}: {counts}</summary>{"".join(parts)}</details>'


def diagram_of(table: str) -> str:
    """Return a drawing of a byte layout; empty if the lines are not one."""
    lines = [line.strip() for line in table.splitlines()]
    if not lines or not re.match(r"offset +size +field", lines[0]):
        return ""
    boxes = []
    for line in lines[2:]:
        cells = re.split(r" {2,}", line)
        if len(cells) < 3:
            continue
        size = cells[1]
        weight = min(int(size), 8) if size.isdigit() else 6
        kind = "" if size.isdigit() else ' class="open"'
        label = f"{size} byte{'s' * (size != '1')}" if size.isdigit() else "any size" if size == "-" else size
        boxes.append(f'<div{kind} style="--w:{weight}"><b>{html.escape(cells[2])}</b>{html.escape(label)}</div>')
    return f'<div class="bytes" role="img" aria-label="byte layout">{"".join(boxes)}</div>\n\n'


def rendered_chapter(text: str, page: str, traces: dict[str, Trace]) -> str:
    """Return a chapter with what belongs to each clause, and with its byte layouts drawn."""
    text = CLAUSE.sub(lambda match: match[0] + trace_of(match["id"], page, traces), text)
    text = LAYOUT.sub(lambda match: diagram_of(match[0]) + match[0], text)
    text = re.sub(r"^```(hex|text|json) [a-z0-9-]+$", r"```\1", text, flags=re.MULTILINE).replace("```hex", "```text")
    return localized(text, page, page).replace("../README.md", "../index.md")


def write_spec(traces: dict[str, Trace]) -> list[Any]:
    """Write the chapters; return their part of the navigation."""
    for path in (SPEC / "companions").iterdir():
        (PAGES / "spec" / "companions").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, PAGES / "spec" / "companions" / path.name)
    write("spec/index.md", (SPEC / "README.md").read_text(encoding="utf-8"))
    parts: dict[str, list[str]] = {}
    for path in sorted(SPEC.glob(CHAPTERS), key=lambda path: path.name):
        page = f"spec/{path.relative_to(SPEC)}"
        text = path.read_text(encoding="utf-8")
        write(page, rendered_chapter(text, page, traces))
        parts.setdefault(path.parent.name, []).append(page)
    names = {
        "format": "The format",
        "writing": "Writing safely",
        "reading": "Reading a dump",
        "appendices": "Appendices",
    }
    return ["spec/index.md", *({names[part]: pages} for part, pages in parts.items())]


def rendered(content: bytes) -> str:
    """Return the content of a file, as text if it is."""
    text = render_bytes(content[:400])
    return html.escape(text) + (f" .. {len(content)} bytes" if len(content) > 400 else "")


def iter_case_lines(case: Case, clauses: dict[str, Clause]) -> Iterator[str]:
    """Yield the lines of the page of a case."""
    yield f"# {case.id}\n\n{html.escape(case.title)}.\n"
    for name in case.clauses:
        clause = clauses[name]
        yield f"- [{name}](../../{known_pages()[name]}#{name.lower()}) · {clause.level} · {html.escape(clause.text)}"
    scene = case.scene
    options = ", ".join(f"{name} {render_bytes(value.encode())}".strip() for name, value in scene.options.items())
    given = [scene.verb, *([f"options: {options}"] if options else [])]
    given += [f"database index {scene.database}"] if scene.database else []
    yield f"\n## Given\n\n{', '.join(given)}.\n"
    for path, planted in scene.planted.items():
        what = rendered(planted.data) if planted.kind == "file" and planted.data is not None else planted.kind
        yield f"- `{render_bytes(path)}`: {planted.kind}{f', <code>{what}</code>' if what != planted.kind else ''}"
    if scene.snapshot is not None and scene.verb == "decode" and len(scene.snapshot) <= LARGEST:
        yield f"\nThe snapshot, [{len(scene.snapshot)} bytes]({case.id}.fsm){{ download }}:\n"
        yield f"```text\n{case.annotated.rstrip()}\n```\n"
    yield "\n## Expected\n"
    for expected in case.allowed:
        yield f"- {html.escape(describe_expected(expected))}"
        for path, content in expected.tree.items():
            yield f"    - `{render_bytes(path)}`: <code>{rendered(content)}</code>"
        for name, paths in expected.findings.items():
            yield f"    - `{name}`: {', '.join(f'<code>{html.escape(each)}</code>' for each in paths)}"
        for name, about in expected.warnings.items():
            yield f"    - warning `{name}`: <code>{html.escape(str(about))}</code>"


@cache
def known_pages() -> dict[str, str]:
    """Return clause = the page that it is on."""
    return {
        match["id"]: f"spec/{path.relative_to(SPEC)}"
        for path in SPEC.glob(CHAPTERS)
        for match in CLAUSE.finditer(path.read_text(encoding="utf-8"))
    }


def write_cases(cases: list[Case]) -> None:
    """Write a page for each case, and their index."""
    clauses = load_clauses()
    chapters = defaultdict(list)
    for case in cases:
        chapters[case.chapter].append(case)
        page = f"cases/{case.chapter}/{case.id}.md"
        write(page, "---\nsearch:\n  exclude: true\n---\n\n" + "\n".join(iter_case_lines(case, clauses)) + "\n")
        if case.scene.snapshot is not None and case.scene.verb == "decode" and len(case.scene.snapshot) <= LARGEST:
            (PAGES / f"cases/{case.chapter}/{case.id}.fsm").write_bytes(case.scene.snapshot)
    lines = [f"# Cases\n\n{len(cases)} golden cases, by the chapter of the rule that they are about.\n"]
    for chapter, found in chapters.items():
        lines.append(f"\n## {chapter.upper()}\n\n{len(found)} cases.\n")
        lines += [f"- [{case.id}]({chapter}/{case.id}.md): {html.escape(case.title)}" for case in found]
    write("cases/index.md", "\n".join(lines) + "\n")


def write_clauses(traces: dict[str, Trace]) -> None:
    """Write the table of traceability."""
    lines = [
        "# Clauses\n\nEvery clause, the cases in which it is kept and broken, the decoders that break it and are"
        " caught, and the modules that cite it.\n",
        "| clause | level | kept by | broken by | mutants | code | why not |", "|---|---|---:|---:|---:|---:|---|",
    ]  # fmt: skip
    for name, trace in traces.items():
        counts = (len(trace.keeping), len(trace.breaking), len(trace.mutants), len(trace.code))
        reasons = "; ".join(filter(None, (trace.no_case, trace.no_mutant)))
        cells = " | ".join(map(str, counts))
        lines.append(f"| [{name}]({known_pages()[name]}#{name.lower()}) | {trace.clause.level} | {cells} | {reasons} |")
    write("clauses.md", "\n".join(lines) + "\n")


def write_commands() -> None:
    """Write what the commands say of themselves."""
    lines = ["# Commands\n"]
    for program, names in (
        ("ekvdump", ("", *COMMANDS)),
        ("ekvconform", ("", "run", "list", "show", "init", "compare", "step", "faults")),
    ):
        for name in names:
            words = [sys.executable, "-m", program, *([name] if name else []), "--help"]
            ran = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"}, check=True)
            lines.append(f"## {program} {name}\n\n```text\n{ran.stdout.rstrip()}\n```\n")
    write("commands.md", "\n".join(lines))


def section(text: str, title: str) -> str:
    """Return a section of a README, with its title."""
    return "# " + title + text.split(f"\n## {title}", 1)[1].split("\n## ", 1)[0] + "\n"


def main() -> int:
    """Write all pages, and build the site."""
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.mkdir(parents=True)
    cases = sorted((case for case in load_cases() if not case.is_big), key=lambda case: (case.chapter, case.id))
    traces = trace_clauses(cases)
    spec_nav = write_spec(traces)
    write_cases(cases)
    write_clauses(traces)
    write_commands()
    for source, page in PUBLISHED.items():
        if source != "spec/README.md":
            write(page, localized((ROOT / source).read_text(encoding="utf-8"), source, page))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    write("your-own-snapshot.md", localized(section(readme, "Your own snapshot"), "README.md", "your-own-snapshot.md"))
    shutil.copy(HERE / "site.css", PAGES / "site.css")
    settings = (HERE / "mkdocs.yml").read_text(encoding="utf-8")
    nav = yaml.safe_dump(spec_nav, default_flow_style=True, width=10**6).strip()
    made = PAGES.parent / "mkdocs.yml"
    made.write_text(settings.replace("[SPEC]", nav).replace("../../build/", ""), encoding="utf-8")
    return subprocess.run(
        [Path(sys.executable).with_name("zensical"), "build", "--strict", "--clean", "-f", str(made)], check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
