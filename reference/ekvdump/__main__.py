"""`python -m ekvdump`."""

from ekvdump.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
