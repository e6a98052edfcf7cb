"""`python -m vitral` is `vitral`."""

from vitral.cli import main

raise SystemExit(main())
