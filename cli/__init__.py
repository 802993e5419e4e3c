"""The `tickhouse` command: one module per group, each a thin layer over the library."""

import os

# Plain help and one-line errors: they can be piped and searched. Read when typer is first imported.
os.environ.setdefault("TYPER_USE_RICH", "0")
