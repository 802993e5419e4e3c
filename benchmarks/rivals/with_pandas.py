"""The pieces in pandas over Arrow's reader, with NumPy columns underneath: as a careful pandas user writes them."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import bench_options
from benchmarks.rivals import day as d
from benchmarks.rivals.with_polars import MANTISSA, NONE, SIDES, fits
from physics.units import SECOND_NS

BATCH_ROWS = 245_760  # rows of the book at a time; the frames of more leave the cache


class Pandas:
    def __init__(self, day: d.Day) -> None:
        self.day = day
        self.points = day.points.to_pandas()
        self.changes = pd.DataFrame()
        self.states = pd.DataFrame()
        self.gammas = pd.DataFrame()

    def _trades(self, *columns: str) -> pd.DataFrame:
        return pq.read_table(self.day.trades, columns=["ts_event_ns", *columns]).to_pandas()

    def bars(self) -> dict[str, np.ndarray]:
        trades = self._trades("tick", "size", "aggressor")
        size = trades["size"].to_numpy().astype(np.int64)
        trades = trades.assign(
            start_s=trades["ts_event_ns"] // SECOND_NS,
            v=size,
            n=trades["tick"] * size,
            s=size * trades["aggressor"],
            k=1,
        )
        rows = {
            "o": ("o", "first"),
            "h": ("h", "max"),
            "l": ("l", "min"),
            "c": ("c", "last"),
            **{x: (x, "sum") for x in "vnsk"},
        }
        bars = trades.assign(o=trades["tick"], h=trades["tick"], l=trades["tick"], c=trades["tick"])
        found = []
        for width in (1, 60, 120):
            by = bars["start_s"] // width * width
            bars = bars.groupby(by, sort=True).agg(**rows).reset_index()
            found.append(bars.assign(w=width))
        whole = pd.concat(found)
        return {name: whole[name].to_numpy() for name in ("w", "start_s", *"ohlcvnsk")}

    # -- the book ------------------------------------------------------------------------------------------------

    def _states(self) -> Iterator[dict[str, np.ndarray]]:
        """States of a batch of records as arrays: a key a level and side, `NONE` where the level is absent."""
        for batch in pq.ParquetFile(self.day.book).iter_batches(BATCH_ROWS):
            table = pa.Table.from_batches([batch])
            is_state = pc.and_(pc.greater_equal(table["flags"], 128), pc.equal(table["action"], "M"))
            table = table.filter(is_state).combine_chunks()
            found = {name: table[name].to_numpy() for name in ("ts_event_ns", "ordinal")}
            for s, sign in SIDES:
                for k in range(10):
                    size = table[f"{s}_sz_{k:02d}"].to_numpy()
                    price = (
                        table[f"{s}_px_{k:02d}"].chunk(0)
                        if table.num_rows
                        else pa.array([], pa.decimal64(18, 9))
                    )
                    mantissa = np.frombuffer(price.buffers()[1], np.int64)[price.offset :][: len(price)]
                    found[f"{s}_sz_{k}"] = size
                    found[f"{s}_px_{k}"] = np.where(size > 0, sign * (mantissa // MANTISSA), NONE)
            yield found

    def book(self) -> dict[str, np.ndarray]:
        changes, flows, cells, before = [], [], [], None
        for batch in self._states():
            states = (
                batch if before is None else {n: np.concatenate([before[n], v]) for n, v in batch.items()}
            )
            before = {n: v[-1:] for n, v in states.items()}
            changes.append(_changes(states))
            flows.append(_order_flow(states))
            cell = (states["ts_event_ns"] // d.GRID_NS + 1) * d.GRID_NS
            last = np.append(cell[1:] != cell[:-1], True)
            cells.append(pd.DataFrame({"cell": cell[last], **{n: v[last] for n, v in states.items()}}))
        self.changes = pd.concat(changes, ignore_index=True)
        self.states = pd.concat(cells, ignore_index=True).drop_duplicates("cell", keep="last")
        flow = pd.concat(flows).groupby("cell", sort=True).sum()
        flow = flow[(flow["ofi"] != 0) | (flow["ofi_1"] != 0)]
        delta, tick = self.changes["delta"].to_numpy(), self.changes["tick"].to_numpy()
        told = np.array([delta.size, delta.sum(), np.abs(delta).sum(), (delta * tick).sum()])
        return {
            "cell": flow.index.to_numpy(),
            **{n: flow[n].to_numpy() for n in ("ofi", "ofi_1")},
            "changes": told,
        }

    def barrier(self) -> dict[str, np.ndarray]:
        points = self.points
        asof, level = points["asof_ns"].to_numpy(), points["level_tick"].to_numpy()
        is_ask = points["direction_sign"].to_numpy() > 0
        ts = self.changes["ts_event_ns"].to_numpy()
        side, tick, delta = (self.changes[n].to_numpy() for n in ("side", "tick", "delta"))
        added, lost = np.zeros(len(points), np.int64), np.zeros(len(points), np.int64)
        first, last = np.searchsorted(ts, asof - d.BARRIER_S * SECOND_NS), np.searchsorted(ts, asof)
        for p in range(len(points)):
            rows = slice(first[p], last[p])
            near = delta[rows][(side[rows] == is_ask[p]) & (np.abs(tick[rows] - level[p]) <= d.ZONE_TICKS)]
            added[p], lost[p] = near[near > 0].sum(), -near[near < 0].sum()

        now = self._asof(asof)
        depth = {s: _depth(now, s, sign, level) for s, sign in SIDES}
        seconds = np.arange(d.OPEN_NS, d.CLOSE_NS + 1, SECOND_NS)
        then = self._asof(seconds)
        middle = (then["bid_px_0"] - then["ask_px_0"]) / 2
        known = then["ordinal"] >= 0
        walls = {}
        for s, sign in SIDES:
            near = np.where(known, _depth(then, s, sign, middle), np.nan)
            walls[s] = pd.Series(near).rolling(d.WALL_S, min_periods=60).median().to_numpy()
        at = (asof - d.OPEN_NS) // SECOND_NS
        chosen = {
            name: np.where(is_ask, of["ask"], of["bid"])
            for name, of in (("depth", depth), ("wall", {s: w[at] for s, w in walls.items()}))
        }
        return {
            "added": added,
            "lost": lost,
            "depth": chosen["depth"],
            "wall_ratio": chosen["depth"] / chosen["wall"],
        }

    def _asof(self, at: np.ndarray) -> dict[str, np.ndarray]:
        """The last state before each instant; ordinal −1 where there is none."""
        row = np.searchsorted(self.states["cell"].to_numpy(), at, "right") - 1
        found = {n: self.states[n].to_numpy()[row] for n in self.states.columns}
        return found | {"ordinal": np.where(row < 0, -1, found["ordinal"])}

    # -- prints --------------------------------------------------------------------------------------------------

    def tape(self) -> dict[str, np.ndarray]:
        trades = self._trades("tick", "size", "aggressor")
        ts, tick, size, aggressor = (
            trades[n].to_numpy() for n in ("ts_event_ns", "tick", "size", "aggressor")
        )
        found = np.zeros((len(self.points), 4))
        for p, (asof, level) in enumerate(
            zip(self.points["asof_ns"], self.points["level_tick"], strict=True)
        ):
            last = np.searchsorted(ts, asof)
            rows = slice(np.searchsorted(ts, asof - d.TAPE_S * SECOND_NS), last)
            near = np.abs(tick[rows] - level) <= d.BAND_TICKS
            for k, sign in enumerate((1, -1)):
                found[p, k] = size[rows][near & (aggressor[rows] == sign)].sum()
            for k, w in enumerate((d.TAPE_S, 15)):
                rows = slice(np.searchsorted(ts, asof - w * SECOND_NS), last)
                t, price = (ts[rows] - asof) / SECOND_NS, tick[rows] * 0.25
                t = t - t.mean()
                found[p, 2 + k] = (t * (price - price.mean())).sum() / (t * t).sum()
        buy, sell = found[:, :2].T.astype(np.int64)
        return {
            "tape_buy_vol": buy,
            "tape_sell_vol": sell,
            "tape_price_slope_60s": found[:, 2],
            "tape_price_slope_15s": found[:, 3],
        }

    def _with_spot(self, prints: pd.DataFrame) -> pd.DataFrame:
        spots = self._trades("tick").rename(columns={"ts_event_ns": "t"})
        return pd.merge_asof(prints, spots, left_on="ts_event_ns", right_on="t", allow_exact_matches=False)

    def ratio(self) -> dict[str, np.ndarray]:
        pairs = self._with_spot(pq.read_table(self.day.spy).to_pandas())
        pairs = pairs[pairs["ts_event_ns"] - pairs["t"] <= SECOND_NS]
        grid = np.arange(d.OPEN_NS, d.CLOSE_NS, SECOND_NS)
        at = np.concatenate([grid, pairs["ts_event_ns"].to_numpy()])
        value = np.concatenate(
            [np.full(grid.size, np.nan), (pairs["tick"] * 0.25 / pairs["price"]).to_numpy()]
        )
        order = np.argsort(at, kind="stable")
        series = pd.Series(value[order], index=pd.to_datetime(at[order], utc=True))
        rolled = series.rolling("60s", min_periods=5, closed="left").median().to_numpy()
        is_found = (order < grid.size) & ~np.isnan(rolled)
        return {"asof_ns": at[order][is_found], "es_spy_ratio": rolled[is_found]}

    def greeks(self) -> dict[str, np.ndarray]:
        prints = self._with_spot(pq.read_table(self.day.options).to_pandas())
        spot, strike = prints["tick"].to_numpy() * 0.25 / d.ES_SPY, prints["strike_milli"].to_numpy() / 1000
        years = (
            np.maximum(d.EXPIRY_NS - prints["ts_event_ns"].to_numpy(), 60 * SECOND_NS) / bench_options.YEAR_NS
        )
        is_call = (prints["right"] == "C").to_numpy()
        iv, gamma = bench_options.vectorised(prints["price"].to_numpy(), spot, strike, years, is_call)

        solved = prints.assign(iv=iv, at=np.where(np.isnan(iv), np.nan, prints["ts_event_ns"]))
        carried = solved.groupby("option_symbol", sort=False)[["iv", "at"]].ffill()
        fresh = prints["ts_event_ns"] - carried["at"] <= 300 * SECOND_NS
        sigma = np.where(fresh, carried["iv"], 0.2)
        deviation = sigma * np.sqrt(years)
        d1 = (np.log(spot / strike) + d.RISK_FREE * years) / deviation + deviation / 2
        dealers = np.exp(-d1 * d1 / 2) / (np.sqrt(2 * np.pi) * spot * deviation)
        flow = -prints["aggressor"].to_numpy() * prints["size"].to_numpy() * dealers * 100
        self.gammas = prints[["ts_event_ns", "strike_milli"]].assign(flow=flow)
        return {"iv": iv, "gamma": gamma}

    def gamma(self) -> dict[str, np.ndarray]:
        asof = self.points["asof_ns"].to_numpy()
        milli = np.floor(self.points["level_tick"].to_numpy() * 0.25 / d.ES_SPY * 1000 + 0.5)
        sums = {back: np.zeros(asof.size) for back in (0, *d.GAMMA_S)}
        for strike, prints in self.gammas.groupby("strike_milli"):
            near = np.flatnonzero(np.abs(strike - milli) <= 1000 * d.STRIKE_RANGE)
            total = np.append(0.0, prints["flow"].to_numpy().cumsum())
            ts = prints["ts_event_ns"].to_numpy()
            for back, of in sums.items():
                of[near] += total[np.searchsorted(ts, asof[near] - back * SECOND_NS)]
        return {"session": sums[0], **{str(back): sums[0] - sums[back] for back in d.GAMMA_S}}

    def kinematics(self) -> dict[str, np.ndarray]:
        states = self._asof(np.arange(d.OPEN_NS, d.CLOSE_NS + 1, d.GRID_NS))
        return fits(self.day, (states["bid_px_0"] - states["ask_px_0"]) * 0.125)


def _changes(states: dict[str, np.ndarray]) -> pd.DataFrame:
    """As in `with_polars`: what changed levels gain and lose at their prices, summed where both meet."""
    found = []
    for side, (s, sign) in enumerate(SIDES):
        limits = np.maximum(states[f"{s}_px_9"][1:], states[f"{s}_px_9"][:-1])
        rows, prices, amounts = [], [], []
        for k in range(10):
            px, size = states[f"{s}_px_{k}"], states[f"{s}_sz_{k}"]
            at = np.flatnonzero((px[1:] != px[:-1]) | (size[1:] != size[:-1]))
            for price, amount in ((px[at + 1], size[at + 1]), (px[at], -size[at])):
                kept = (price != NONE) & (price >= limits[at])
                rows.append(at[kept] + 1)
                prices.append(price[kept])
                amounts.append(amount[kept])
        at, price = np.concatenate(rows), np.concatenate(prices)
        summed = pd.Series(np.concatenate(amounts).astype(np.int64)).groupby([at, price], sort=True).sum()
        summed = summed[summed != 0]
        row = summed.index.get_level_values(0).to_numpy()
        tick = sign * summed.index.get_level_values(1).to_numpy()
        found.append(
            pd.DataFrame(
                {
                    "ts_event_ns": states["ts_event_ns"][row],
                    "side": side,
                    "tick": tick,
                    "delta": summed.to_numpy(),
                }
            )
        )
    return pd.concat(found).sort_values("ts_event_ns", kind="stable")


def _order_flow(states: dict[str, np.ndarray]) -> pd.DataFrame:
    flows = []
    for k in range(10):
        total = np.zeros(len(states["ts_event_ns"]) - 1, np.int64)
        for s, sign in SIDES:
            px, size = states[f"{s}_px_{k}"], states[f"{s}_sz_{k}"].astype(np.int64)
            total += sign * (
                np.where(px[1:] >= px[:-1], size[1:], 0) - np.where(px[1:] <= px[:-1], size[:-1], 0)
            )
        flows.append(total)
    cell = (states["ts_event_ns"][1:] // d.GRID_NS + 1) * d.GRID_NS
    return (
        pd.DataFrame({"cell": cell, "ofi": sum(flows), "ofi_1": flows[0]})
        .groupby("cell", sort=True)
        .sum()
        .reset_index()
    )


def _depth(states: dict[str, np.ndarray], s: str, sign: int, centre: np.ndarray) -> np.ndarray:
    return sum(
        np.where(
            np.abs(sign * states[f"{s}_px_{k}"] - centre) <= d.ZONE_TICKS, states[f"{s}_sz_{k}"], 0
        ).astype(np.int64)
        for k in range(10)
    )
