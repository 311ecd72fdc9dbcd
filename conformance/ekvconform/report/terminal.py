"""Prints progress, failures, and the matrix of chapters by verdict."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from ekvexplain.clauses import load_clauses
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from ekvconform.campaigns.faults import FAULTS, Tried, count_trials
from ekvconform.campaigns.races import Stepped
from ekvconform.cases.moments import SCENES, Moment
from ekvconform.judge.verdicts import PASS, VERDICTS
from ekvconform.report.comparison import BROKEN, CLASSES, FIXED, compare_reports
from ekvconform.report.formats import verdict_words
from ekvconform.report.records import AS_EXPECTED, Report, Row, count_matrix, counted, describe_cause, describe_parts

MAX_NAMES: Final = 8
"""Cases of a cause that are named."""
MAX_FINDINGS: Final = 10
"""Findings of a campaign that are printed."""
MAX_WIDTH: Final = 100
"""Columns of a table of a campaign."""
STALE_ADVICE: Final = (
    "a list goes stale with the program, and with a new suite (this is suite {suite}): with "
    "--update-known-failures the run brings it up to date, and prints what it changed"
)
LOUD: Final = ("every run ended", "the reason", "the cases came in", "the cases were varied", "the program could read")
"""Beginnings of the lines about what was not proved that a short report prints too."""
GOOD: Final = "green"
BAD: Final = "bold red"
QUIET: Final = "dim"


@contextmanager
def progress_of(total: int) -> Iterator[Callable[[str], None]]:
    """Show a progress bar on a terminal; yield a function that is called with each verdict."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda verdict: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task("cases", total=total)
        bad = 0

        def advance(verdict: str) -> None:
            nonlocal bad
            bad += verdict not in AS_EXPECTED
            progress.update(task, advance=1, description=f"[red]{bad} not as expected[/]" if bad else "cases")
            progress.refresh()  # here and not in a thread: this process forks

        yield advance


def _print_findings(findings: Sequence[tuple[int, str]], again: tuple[str, str]) -> None:
    """Print numbered findings, as many as are worth reading, and the command that repeats one of them."""
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    for number, words in findings[:MAX_FINDINGS]:
        console.print(Text(printable(f"{number}: {words}"), BAD))
        console.print(Text(f"    {again[0]} --number {number}{again[1]}"))
    if len(findings) > MAX_FINDINGS:
        console.print(Text(f"{counted(len(findings) - MAX_FINDINGS, 'more finding')}: --number N repeats one", BAD))


def print_steps(title: str, moments: Sequence[Moment], found: Mapping[int, Stepped], again: tuple[str, str]) -> None:
    """Print failures with their moments, and the table of paths by kind of tampering."""
    _print_findings(
        [
            (number, f"{each.verdict} {each.step}: {each.words}")
            for number, each in found.items()
            if each.verdict != PASS
        ],
        again,
    )
    cells: dict[tuple[str, str], Counter[str]] = {}
    for stepped in found.values():
        cells.setdefault((stepped.step.place, stepped.step.scene), Counter())[stepped.verdict] += 1
    words = f"{len(moments)} moments, {_runs(each.verdict for each in found.values())}"
    table = Table(Column("place", overflow="fold"), title=f"{printable(title)}: {words}", title_justify="left")
    for scene in SCENES:
        table.add_column(scene.replace("-", " "), justify="right")
    for place in sorted({place for place, _ in cells}):
        table.add_row(printable(place), *(verdicts_text(cells.get((place, scene), {})) for scene in SCENES))
    Console(width=MAX_WIDTH).print(table)


def print_trials(title: str, found: Mapping[int, Tried], again: tuple[str, str]) -> None:
    """Print failures with their faults, and the table of calls by faults."""
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    _print_findings(
        [
            (number, f"{each.verdict} {each.trial}: {each.words}")
            for number, each in found.items()
            if each.verdict != PASS
        ],
        again,
    )
    cells = count_trials(list(found.values()))
    words = _runs(each.verdict for each in found.values())
    table = Table(Column("call", no_wrap=True), title=f"{printable(title)}: {words}", title_justify="left")
    for fault in FAULTS:
        table.add_column(fault, justify="right")
    for call in sorted({call for call, _ in cells}):
        table.add_row(call, *(verdicts_text(cells.get((call, fault), {})) for fault in FAULTS))
    Console(width=MAX_WIDTH).print(table)
    for words, count in Counter(tried.words for tried in found.values() if tried.verdict == PASS).most_common():
        console.print(Text(f"  {count} {printable(words)}", QUIET))


def _runs(verdicts: Iterable[str]) -> str:
    counts = Counter(verdicts)
    words = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if verdict in counts)
    return f"{counts.total()} runs ({words}); a number alone counts those that passed"


def verdicts_text(counts: Mapping[str, int]) -> Text:
    """Render the counts of verdicts; a number alone counts passes."""
    if not counts:
        return Text("-", QUIET)
    words = [str(counts[PASS])] if PASS in counts else []
    words += [f"{counts[verdict]} {verdict}" for verdict in VERDICTS if verdict in counts and verdict != PASS]
    return Text(", ".join(words), GOOD if list(counts) == [PASS] else BAD)


def print_report(report: Report, *, quiet: bool = False, first: bool = False) -> None:
    """Print causes, the matrix, and what was not proved; with `first` only the first cause."""
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    quoted: set[str] = set()
    for cause in report.causes[: 1 if first else None]:
        _print_cause(console, report, cause, quoted)
    if first and len(report.causes) > 1:
        console.print(Text(f"{counted(len(report.causes) - 1, 'more cause')}: run without --first", BAD))
    for line in report.footer["stale"]:
        console.print(Text(f"stale: {line}", BAD))
    if report.footer["stale"]:
        console.print(Text(STALE_ADVICE.format(suite=report.header["suite"]), QUIET))
    if not quiet:
        console.print(_matrix(report))
    for line in report.footer["not_proved"]:
        if not quiet or line.startswith(LOUD):
            console.print(Text(f"  {printable(line)}", QUIET))
    good = report.footer["as_expected"]
    console.print(Text(f"{printable(report.program)}: {verdict_words(report)}", GOOD if good else BAD))


def _print_cause(console: Console, report: Report, cause: Row, quoted: set[str]) -> None:
    """Print what differs, the words of the rule (once a report), the smallest case, and the names of the others."""
    console.print(Text(printable(describe_cause(cause)), BAD))
    if parts := describe_parts(cause):
        console.print(Text(f"    {parts}", QUIET))
    if cause["effects"]:
        console.print(Text(f"    and with it: {printable('; '.join(dict.fromkeys(cause['effects'])))}", QUIET))
    if cause["clause"] not in quoted:
        quoted.add(cause["clause"])
        clause = load_clauses()[cause["clause"]]
        console.print(Text(f"    {clause.id} ({clause.level}): {clause.text}"))
    row = report.row_of(cause["example"])
    console.print(Text(f"    for example {row['verdict']} {row['id']}: {row['title']}"))
    differences = [*row["differences"], *row["deviations"]]
    for difference in [each for each in differences if each["form"] in cause["forms"]] or differences[:1]:
        words = f"{difference['place']}: expected {difference['expected']}, found {difference['found']}"
        console.print(Text(f"        {printable(words)}"))
        for line in difference["bytes"]:
            console.print(Text(f"            {printable(line)}"))
    console.print(Text(f"        {printable(row['repro'])}"))
    others = [name for name in (*cause["failing"], *cause["deviating"]) if name != row["id"]]
    if others:
        more = f" and {len(others) - MAX_NAMES} more" if len(others) > MAX_NAMES else ""
        console.print(Text(f"    also {', '.join(others[:MAX_NAMES])}{more}", QUIET))


def print_comparison(old: Report, new: Report) -> bool:
    """Print what changed between two reports; return True if anything is broken."""
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    if (old.header["suite"], old.header["suite_sha256"]) != (new.header["suite"], new.header["suite_sha256"]):
        words = f"other suites: {old.header['suite']} and {new.header['suite']}; a case may differ for that reason"
        console.print(Text(words, QUIET))
    changes = compare_reports(old, new)
    for change in changes:
        style = BAD if change.kind == BROKEN else GOOD if change.kind == FIXED else ""
        console.print(Text(printable(f"{change.kind} {change.case_id}: {change.words}"), style))
    counts = Counter(change.kind for change in changes)
    words = ", ".join(f"{counts[kind]} {kind}" for kind in CLASSES if counts[kind]) or "nothing changed"
    console.print(Text(f"{printable(new.program)}: {words}", BAD if counts[BROKEN] else GOOD))
    return bool(counts[BROKEN])


def printable(text: str) -> str:
    """Escape everything in a text that would control a terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _matrix(report: Report) -> Table:
    shown, matrix = count_matrix(report.rows)
    title = f"{printable(report.program)}, suite {report.header['suite']}"
    table = Table("chapter", title=title, title_justify="left")
    for verdict in shown:
        table.add_column(verdict, justify="right", style=_style(verdict), min_width=len(verdict))
    for chapter, counts in matrix:
        table.add_row(chapter, *(str(count or "-") for count in counts))
    table.add_section()
    table.add_row("all", *(str(sum(column)) for column in zip(*(counts for _, counts in matrix), strict=True)))
    return table


def _style(verdict: str) -> str:
    if verdict == PASS:
        return GOOD
    return QUIET if verdict in AS_EXPECTED else BAD
