"""Compiles `spec/companions/ekv_snapshot.ksy` to Python with the real compiler: `make kaitai`, which needs npm.

The result is kept in `tests/support/kaitai/`, so that the tests need no Node; its first line has the hash of what
it was made from. With `--check` nothing is written: the result must be what is kept.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import yaml

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCE: Final = ROOT / "spec" / "companions" / "ekv_snapshot.ksy"
COMPILED: Final = ROOT / "tests" / "support" / "kaitai" / "ekv_snapshot.py"
WORK: Final = ROOT / "build" / "kaitai"
COMPILER: Final = "kaitai-struct-compiler@0.11.0"
SCRIPT: Final = """
const fs = require('fs');
const compiler = require('kaitai-struct-compiler');
const source = JSON.parse(fs.readFileSync(0, 'utf8'));
compiler.compile('python', source, null, false).then((files) => process.stdout.write(Object.values(files)[0]));
"""


def mark_of(source: bytes) -> str:
    """Return the first line of what is made from a source."""
    return f"# Made from ekv_snapshot.ksy, SHA-256 {hashlib.sha256(source).hexdigest()}; see tools/compile_kaitai.py.\n"


def compile_source() -> str:
    """Compile the source; return a Python module."""
    WORK.mkdir(parents=True, exist_ok=True)
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-save", "--no-package-lock", COMPILER]
    subprocess.run(install, cwd=WORK, check=True)
    source = SOURCE.read_bytes()
    ran = subprocess.run(
        ["node", "-e", SCRIPT],
        cwd=WORK,
        input=json.dumps(yaml.safe_load(source)).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    return mark_of(source) + ran.stdout.decode("utf-8")


def main() -> int:
    """Compile, and write the result or compare it."""
    compiled = compile_source()
    if "--check" not in sys.argv[1:]:
        COMPILED.write_text(compiled, encoding="utf-8")
    elif COMPILED.read_text(encoding="utf-8") != compiled:
        print(f"{COMPILED.relative_to(ROOT)} is stale: make kaitai", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
