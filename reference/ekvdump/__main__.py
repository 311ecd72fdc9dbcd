"""`python -m ekvdump`."""

from ekvdump.cli import main

raise SystemExit(main())
