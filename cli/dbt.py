"""dbt, as commands call it."""

from lake.dbt import UNTOLD, invoke

__all__ = ["UNTOLD", "invoke"]
