"""Where the fixtures and the spec lie: in the checkout, or beside this file in an installed package."""

from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE if (HERE / "fixtures").is_dir() else HERE.parent.parent
FIXTURES: Final = ROOT / "fixtures"
SPEC: Final = ROOT / "spec"
