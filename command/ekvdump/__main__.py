"""`python -m ekvdump`."""

from ekvdump.cli.main import main

raise SystemExit(main())
