"""What the simulator knows and nobody downstream may read: planted states, outcomes, and exact event counts."""

from collections import Counter
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ingest.simulator.levels import POINT_TICKS, ROUND_TICKS
from ingest.simulator.plan import BOUNCE, BREAK, CHOP
from ingest.simulator.session import SessionStream

HOUR_NS = 3_600_000_000_000
OUTCOMES = {BREAK: "BREAK", BOUNCE: "BOUNCE", CHOP: "CHOP", -1: None}
TOUCHES = pa.schema(
    [
        ("session_date", pa.date32()),
        ("level_tick", pa.int32()),
        ("level_price", pa.float64()),
        ("direction", pa.string()),
        ("planned_ns", pa.int64()),
        ("planted_state", pa.string()),
        ("outcome", pa.string()),
    ]
)
HOURS = pa.schema(
    [
        ("instrument_id", pa.int64()),
        ("hour_ns", pa.int64()),
        ("records", pa.int64()),
        ("event_ends", pa.int64()),
        ("trades", pa.int64()),
        ("volume_contracts", pa.int64()),
    ]
)


class Recorder:
    """Collects the truth of a call and writes it in two Parquet files.

    ``write(path)`` puts one row per touch of a ROUND level at ``path``: level, direction, the time the touch was
    planned for (the print follows within 5 ms), ``planted_state`` VACUUM or null, outcome within 8 minutes (null when
    they leave the session). Beside it, ``<stem>_hours.parquet`` has one row per instrument and UTC hour of ts_event:
    records, event ends, trades and contracts traded of the clean stream, no fault injected.
    """

    def __init__(self) -> None:
        self._touches: list[dict] = []
        self._hours: dict[tuple[int, int], Counter] = {}

    def add_plan(self, day: date, stream: SessionStream) -> None:
        plan = stream.plan
        for k, event in enumerate(plan.touch_event):
            tick = int(plan.touch_level[k]) * ROUND_TICKS
            self._touches.append(
                {
                    "session_date": day,
                    "level_tick": tick,
                    "level_price": tick / POINT_TICKS,
                    "direction": "UP" if plan.touch_direction[k] > 0 else "DOWN",
                    "planned_ns": int(plan.ts_ns[event]),
                    "planted_state": "VACUUM" if plan.touch_is_vacuum[k] else None,
                    "outcome": OUTCOMES[int(plan.touch_outcome[k])],
                }
            )

    def add_block(self, block: np.ndarray) -> None:
        instrument, hour = block[:, 0] >> 32, block[:, 1] // HOUR_NS * HOUR_NS
        action, is_last = block[:, 3] >> 32 & 0xFF, (block[:, 3] >> 48 & 128) > 0
        size = block[:, 3] & 0xFFFFFFFF
        keys, row = np.unique(np.stack([instrument, hour]), axis=1, return_inverse=True)
        is_trade = action == ord("T")
        for k, (key_instrument, key_hour) in enumerate(keys.T):
            mine = row == k
            self._hours.setdefault((int(key_instrument), int(key_hour)), Counter()).update(
                records=int(mine.sum()),
                event_ends=int((mine & is_last).sum()),
                trades=int((mine & is_trade).sum()),
                volume_contracts=int(size[mine & is_trade].sum()),
            )

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(self._touches, TOUCHES), path)
        hours = [
            {"instrument_id": instrument, "hour_ns": hour} | {name: counts[name] for name in HOURS.names[2:]}
            for (instrument, hour), counts in sorted(self._hours.items())
        ]
        pq.write_table(pa.Table.from_pylist(hours, HOURS), path.with_name(f"{path.stem}_hours.parquet"))
