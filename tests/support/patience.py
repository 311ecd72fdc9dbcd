"""How long a test waits for a program that it starts."""

from typing import Final

HANG_SECONDS: Final = 900
"""Wall time after which a program hangs. Nothing takes a tenth of it, however busy the machine is."""
