"""Bring the index and the bundle of the fixtures up to date: `make fixtures`."""

import shutil
from pathlib import Path

from ekvconform.cases.export import export
from ekvconform.cases.golden_cases import load_cases
from ekvconform.cases.suite import load_suite, render_updated_index

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"


def main() -> int:
    """Write both; a changed case makes a new version of the suite."""
    (FIXTURES / "index.toml").write_text(render_updated_index(), encoding="utf-8")
    shutil.rmtree(FIXTURES / "bundle", ignore_errors=True)
    suite, cases = load_suite(), load_cases()
    count = export(cases, suite, FIXTURES / "bundle")
    print(f"suite {suite.version}: {len(cases)} cases, a bundle of {count} files")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
