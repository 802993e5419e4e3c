"""What a load of windows did."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class LoadReport:
    """What a load did. ``rows`` were accepted in the bounds, ``new_rows`` of them are new to bronze.

    ``late_rows`` went to supplements of sealed windows. ``windows`` had something published, ``unchanged`` already
    held it all. ``incomplete`` and ``conflicts`` list window starts.
    """

    dataset: str
    rows: int = 0
    new_rows: int = 0
    late_rows: int = 0
    rejected: int = 0
    filtered: int = 0
    windows: int = 0
    unchanged: int = 0
    empty_windows: int = 0
    bytes_out: int = 0
    incomplete: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    by_rule: dict[str, int] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 published, 2 published with incomplete windows, 3 conflict."""
        return 3 if self.conflicts else 2 if self.incomplete else 0
