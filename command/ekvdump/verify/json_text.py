"""JSON as RFC 8259 has it: Python reads more than that. [KMAP-6] [MANI-11]"""

import json
from typing import Any, NoReturn


def decode_json(text: bytes) -> Any:
    """Decode JSON in UTF-8. Raises `ValueError`, or `RecursionError` for values nested too deep."""
    return json.loads(text.decode("utf-8"), parse_constant=refuse_constant)


def refuse_constant(word: str) -> NoReturn:
    """Refuse `NaN` and the infinities."""
    raise ValueError(f"{word} is not JSON")
