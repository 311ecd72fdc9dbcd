"""`python -m ekvconform`."""

from ekvconform.cli import main

raise SystemExit(main())
