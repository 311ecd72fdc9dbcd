"""Where the fixtures and the spec are: in the checkout, or inside an installed package."""

from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).resolve().parent.parent
ROOT: Final = PACKAGE if (PACKAGE / "fixtures").is_dir() else PACKAGE.parent.parent
FIXTURES: Final = ROOT / "fixtures"
SPEC: Final = ROOT / "spec"
