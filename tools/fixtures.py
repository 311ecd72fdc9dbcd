"""Bring the index of the fixtures and their export up to date: `make fixtures`."""

from pathlib import Path

from ekvconform.cases.export import iter_lines
from ekvconform.cases.loading import load_cases
from ekvconform.cases.suite import load_suite, render_updated_index

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"


def main() -> int:
    """Write both; a changed case makes a new version of the suite."""
    (FIXTURES / "index.toml").write_text(render_updated_index(), encoding="utf-8")
    cases = load_cases()
    (FIXTURES / "cases.jsonl").write_text("".join(iter_lines(cases)), encoding="utf-8")
    print(f"suite {load_suite().version}: {len(cases)} cases")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
