"""Where the fixtures are, in the checkout or inside an installed package; and the tables of the spec."""

import tomllib
from pathlib import Path
from typing import Final

from ekvexplain.clauses import SPEC

PACKAGE: Final = Path(__file__).resolve().parent.parent
ROOT: Final = PACKAGE if (PACKAGE / "fixtures").is_dir() else PACKAGE.parent.parent
FIXTURES: Final = ROOT / "fixtures"
OUTCOMES_TABLE: Final = tomllib.loads((SPEC / "companions" / "outcomes.toml").read_text(encoding="utf-8"))
KEYS_TABLE: Final = tomllib.loads((SPEC / "companions" / "keys.toml").read_text(encoding="utf-8"))
USER_KEYS_TABLE: Final = tomllib.loads((SPEC / "companions" / "user_keys.toml").read_text(encoding="utf-8"))
FATE_PATH: Final = SPEC / "companions" / "fate.toml"
FATE_TABLE: Final = tomllib.loads(FATE_PATH.read_text(encoding="utf-8"))
