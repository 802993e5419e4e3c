"""The pieces in Polars: lazy scans, as-of joins, rolling expressions; NumPy where an expression would iterate."""

import numpy as np
import polars as pl

from benchmarks import bench_options
from benchmarks.rivals import day as d
from physics.units import SECOND_NS

SIDES = (("bid", 1), ("ask", -1))  # and the sign by which the best price is the largest
MANTISSA = 250_000_000
NONE = -(2**40)  # a price below any other, on the scale of both sides
BATCH_ROWS = 1_000_000


class Polars:
    def __init__(self, day: d.Day) -> None:
        self.day = day
        self.points = pl.from_arrow(day.points).with_row_index("point")
        self.changes = pl.DataFrame()
        self.states = pl.DataFrame()
        self.gammas = pl.DataFrame()

    def bars(self) -> dict[str, np.ndarray]:
        trades = pl.scan_parquet(self.day.trades)
        size, tick = pl.col("size").cast(pl.Int64), pl.col("tick").cast(pl.Int64)
        bars = [
            trades.group_by((pl.col("ts_event_ns") // SECOND_NS).alias("start_s"), maintain_order=True)
            .agg(
                o=pl.col("tick").first(),
                h=pl.col("tick").max(),
                l=pl.col("tick").min(),
                c=pl.col("tick").last(),
                v=size.sum(),
                n=(tick * size).sum(),
                s=(size * pl.col("aggressor")).sum(),
                k=pl.len().cast(pl.Int64),
            )
            .collect()
        ]
        for width in (60, 120):
            bars.append(
                bars[-1]
                .group_by(pl.col("start_s") // width * width, maintain_order=True)
                .agg(
                    pl.col("o").first(),
                    pl.col("h").max(),
                    pl.col("l").min(),
                    pl.col("c").last(),
                    *(pl.col(name).sum() for name in "vnsk"),
                )
            )
        found = pl.concat(
            [b.select(pl.lit(w).alias("w"), pl.all()) for w, b in zip((1, 60, 120), bars, strict=True)]
        )
        return {name: found[name].to_numpy() for name in found.columns}

    # -- the book ------------------------------------------------------------------------------------------------

    def book(self) -> dict[str, np.ndarray]:
        """In row groups: the day's 40 columns and their lags at once would take gigabytes."""
        names = [f"{s}_{what}_{k:02d}" for s, _ in SIDES for what in ("px", "sz") for k in range(10)]
        is_state = (pl.col("flags") >= 128) & ~pl.col("action").is_in(["T", "F", "N", "R"])
        keys = [
            pl.when(pl.col(f"{s}_sz_{k:02d}") > 0)
            .then(pl.col(f"{s}_px_{k:02d}").cast(pl.Decimal(18, 9)).to_physical() // (sign * MANTISSA))
            .otherwise(NONE)
            .cast(pl.Int64)
            .alias(f"{s}_px_{k:02d}")
            for s, sign in SIDES
            for k in range(10)
        ]
        source = pl.scan_parquet(self.day.book).select("ts_event_ns", "ordinal", "action", "flags", *names)
        rows = source.select(pl.len()).collect().item()
        changes, flows, cells, before = [], [], [], None
        for first in range(0, rows, BATCH_ROWS):
            states = (
                source.slice(first, BATCH_ROWS)
                .filter(is_state)
                .with_columns(keys)
                .drop("action", "flags")
                .collect()
            )
            states = states if before is None else pl.concat([before, states])
            before = states.tail(1)
            moved = pl.concat(
                [states.slice(1), states.head(-1).select(pl.all().name.prefix("was_"))], how="horizontal"
            )
            changes.append(_changes(moved))
            flows.append(_order_flow(moved))
            cell = ((pl.col("ts_event_ns") // d.GRID_NS + 1) * d.GRID_NS).alias("cell")
            cells.append(states.group_by(cell, maintain_order=True).last())
        self.changes = pl.concat(changes).sort("ts_event_ns", maintain_order=True)
        flow = pl.concat(flows).group_by("cell", maintain_order=True).sum()
        flow = flow.filter((pl.col("ofi") != 0) | (pl.col("ofi_1") != 0))
        self.states = pl.concat(cells).unique("cell", keep="last", maintain_order=True)
        delta = self.changes["delta"]
        told = [len(delta), delta.sum(), delta.abs().sum(), (delta * self.changes["tick"]).sum()]
        return {**{n: flow[n].to_numpy() for n in ("cell", "ofi", "ofi_1")}, "changes": np.array(told)}

    def _asof(self, instants: pl.DataFrame) -> pl.DataFrame:
        """The last state before each ``at``."""
        return instants.sort("at").join_asof(self.states, left_on="at", right_on="cell")

    def barrier(self) -> dict[str, np.ndarray]:
        points = self.points.with_columns(
            side=(pl.col("direction_sign") > 0).cast(pl.Int8),
            at=pl.col("asof_ns"),
            level=pl.col("level_tick").cast(pl.Int64),
        )
        minute = 60 * SECOND_NS
        bucketed = (
            points.with_columns(
                bucket=pl.int_ranges(
                    (pl.col("at") - d.BARRIER_S * SECOND_NS) // minute, pl.col("at") // minute + 1
                ),
                tick=pl.int_ranges(pl.col("level") - d.ZONE_TICKS, pl.col("level") + d.ZONE_TICKS + 1),
            )
            .explode("bucket")
            .explode("tick")
            .select("point", "at", "side", "bucket", "tick")
        )
        cells = (
            self.changes.lazy()
            .with_columns(bucket=pl.col("ts_event_ns") // minute)
            .join(bucketed.lazy(), on=["bucket", "side", "tick"])
            .filter(
                (pl.col("ts_event_ns") < pl.col("at"))
                & (pl.col("ts_event_ns") >= pl.col("at") - d.BARRIER_S * SECOND_NS)
            )
            .group_by("point")
            .agg(
                added=pl.col("delta").filter(pl.col("delta") > 0).sum(),
                lost=-pl.col("delta").filter(pl.col("delta") < 0).sum(),
            )
            .collect()
        )
        depth = {s: _depth(s, sign, pl.col("level")) for s, sign in SIDES}
        now = self._asof(points).select(
            "point",
            "at",
            "side",
            depth=pl.when(pl.col("side") == 1).then(depth["ask"]).otherwise(depth["bid"]),
        )
        grid = pl.DataFrame({"at": np.arange(d.OPEN_NS, d.CLOSE_NS + 1, SECOND_NS)})
        middle = (pl.col("bid_px_00") - pl.col("ask_px_00")) / 2
        near = self._asof(grid).select(
            "at", *(_depth(s, sign, middle).cast(pl.Float64).alias(s) for s, sign in SIDES)
        )
        window = {"by": "t", "window_size": f"{d.WALL_S}i", "closed": "right", "min_samples": 60}
        walls = near.with_columns(t=pl.col("at") // SECOND_NS)
        walls = walls.with_columns(pl.col("bid", "ask").rolling_median_by(**window))
        found = (
            now.with_columns(second=pl.col("at") // SECOND_NS)
            .join(walls.select("t", "bid", "ask"), left_on="second", right_on="t", how="left")
            .join(cells, on="point", how="left")
            .with_columns(wall=pl.col("depth") / pl.when(pl.col("side") == 1).then("ask").otherwise("bid"))
            .sort("point")
        )
        return {
            "added": found["added"].fill_null(0).to_numpy(),
            "lost": found["lost"].fill_null(0).to_numpy(),
            "depth": found["depth"].to_numpy(),
            "wall_ratio": found["wall"].to_numpy(),
        }

    # -- prints --------------------------------------------------------------------------------------------------

    def tape(self) -> dict[str, np.ndarray]:
        second = pl.col("ts_event_ns") // SECOND_NS
        trades = pl.scan_parquet(self.day.trades).select("ts_event_ns", "tick", "size", "aggressor", s=second)
        wanted = (
            self.points.lazy()
            .with_columns(
                s=pl.int_ranges(
                    (pl.col("asof_ns") // SECOND_NS) - d.TAPE_S, pl.col("asof_ns") // SECOND_NS + 1
                )
            )
            .explode("s")
        )
        t = (pl.col("ts_event_ns") - pl.col("asof_ns")) / SECOND_NS
        price = pl.col("tick") * 0.25
        band = (pl.col("tick") - pl.col("level_tick")).abs() <= d.BAND_TICKS
        last_15 = pl.col("t") >= -15
        found = (
            trades.join(wanted, on="s")
            .filter(
                (pl.col("ts_event_ns") < pl.col("asof_ns"))
                & (pl.col("ts_event_ns") >= pl.col("asof_ns") - d.TAPE_S * SECOND_NS)
            )
            .with_columns(t=t, price=price)
            .group_by("point")
            .agg(
                buy=pl.col("size").filter(band & (pl.col("aggressor") == 1)).sum().cast(pl.Int64),
                sell=pl.col("size").filter(band & (pl.col("aggressor") == -1)).sum().cast(pl.Int64),
                slope=pl.cov("t", "price") / pl.col("t").var(),
                slope_15=pl.cov(pl.col("t").filter(last_15), pl.col("price").filter(last_15))
                / pl.col("t").filter(last_15).var(),
            )
        )
        found = self.points.lazy().select("point").join(found, on="point", how="left").sort("point").collect()
        return {
            "tape_buy_vol": found["buy"].fill_null(0).to_numpy(),
            "tape_sell_vol": found["sell"].fill_null(0).to_numpy(),
            "tape_price_slope_60s": found["slope"].to_numpy(),
            "tape_price_slope_15s": found["slope_15"].to_numpy(),
        }

    def _with_spot(self, prints: pl.LazyFrame) -> pl.LazyFrame:
        """Each print with the last trade strictly before it: one row an instant on the right."""
        spots = (
            pl.scan_parquet(self.day.trades)
            .select(t="ts_event_ns", tick="tick")
            .unique("t", keep="last", maintain_order=True)
        )
        return prints.with_columns(at=pl.col("ts_event_ns") - 1).join_asof(
            spots, left_on="at", right_on="t", check_sortedness=False
        )

    def ratio(self) -> dict[str, np.ndarray]:
        pairs = self._with_spot(pl.scan_parquet(self.day.spy)).filter(
            pl.col("ts_event_ns") - pl.col("t") <= SECOND_NS
        )
        pairs = pairs.select(at="ts_event_ns", r=pl.col("tick") * 0.25 / pl.col("price"))
        grid = pl.LazyFrame(
            {"at": np.arange(d.OPEN_NS, d.CLOSE_NS, SECOND_NS), "r": None},
            schema={"at": pl.Int64, "r": pl.Float64},
        )
        both = (
            pl.concat([grid.with_columns(is_grid=True), pairs.with_columns(is_grid=False)])
            .sort("at", maintain_order=True)
            .collect()
        )
        rolled = both.with_columns(
            r=pl.col("r").rolling_median_by("at", f"{60 * SECOND_NS}i", min_samples=5, closed="left")
        )
        found = rolled.filter(pl.col("is_grid") & pl.col("r").is_not_null())
        return {"asof_ns": found["at"].to_numpy(), "es_spy_ratio": found["r"].to_numpy()}

    def greeks(self) -> dict[str, np.ndarray]:
        found = self._with_spot(pl.scan_parquet(self.day.options)).collect()
        spot, strike = found["tick"].to_numpy() * 0.25 / d.ES_SPY, found["strike_milli"].to_numpy() / 1000
        years = (
            np.maximum(d.EXPIRY_NS - found["ts_event_ns"].to_numpy(), 60 * SECOND_NS) / bench_options.YEAR_NS
        )
        is_call = (found["right"] == "C").to_numpy()
        iv, gamma = bench_options.vectorised(found["price"].to_numpy(), spot, strike, years, is_call)
        self.gammas = _carried(
            found.select("ts_event_ns", "option_symbol", "strike_milli", "size", "aggressor"),
            iv,
            spot,
            strike,
            years,
        )
        return {"iv": iv, "gamma": gamma}

    def gamma(self) -> dict[str, np.ndarray]:
        by_strike = self.gammas.select(
            "ts_event_ns",
            "strike_milli",
            flow=-pl.col("aggressor").cast(pl.Float64) * pl.col("size") * pl.col("gamma") * 100,
        )
        by_strike = by_strike.with_columns(total=pl.col("flow").cum_sum().over("strike_milli"))
        strikes = np.unique(by_strike["strike_milli"].to_numpy())
        milli = np.floor(self.day.point("level_tick") * 0.25 / d.ES_SPY * 1000 + 0.5)
        near = (
            self.points.select("point", "asof_ns")
            .with_columns(milli=pl.Series(milli))
            .join(pl.DataFrame({"strike_milli": strikes}), how="cross")
            .filter((pl.col("strike_milli") - pl.col("milli")).abs() <= 1000 * d.STRIKE_RANGE)
        )
        sums = {}
        for name, back in (("now", 0), *((str(w), w) for w in d.GAMMA_S)):
            at = near.with_columns(at=pl.col("asof_ns") - back * SECOND_NS - 1).sort("at")
            right = by_strike.select("ts_event_ns", "strike_milli", "total").unique(
                ["ts_event_ns", "strike_milli"], keep="last", maintain_order=True
            )
            found = at.join_asof(
                right, left_on="at", right_on="ts_event_ns", by="strike_milli", check_sortedness=False
            )
            sums[name] = found.group_by("point").agg(pl.col("total").sum()).sort("point")["total"].to_numpy()
        return {"session": sums["now"], **{str(w): sums["now"] - sums[str(w)] for w in d.GAMMA_S}}

    def kinematics(self) -> dict[str, np.ndarray]:
        """The mid of every cell end once, gathered by position: lags are whole cells."""
        ends = pl.DataFrame({"at": np.arange(d.OPEN_NS, d.CLOSE_NS + 1, d.GRID_NS)})
        mids = self.states.select("cell", mid=(pl.col("bid_px_00") - pl.col("ask_px_00")) * 0.125)
        mid = ends.join_asof(mids, left_on="at", right_on="cell", check_sortedness=False)["mid"].to_numpy()
        return fits(self.day, mid)


def fits(day: d.Day, mid: np.ndarray) -> dict[str, np.ndarray]:
    """Leading coefficients of polynomials on the mids at 0, −1, −2 … s before each point, one product a degree; ``mid``
    is of every cell end of the day.
    """
    lags = 60 * max(d.FIT_MIN)
    at = (day.point("asof_ns") - d.OPEN_NS) // d.GRID_NS
    y = mid[at[:, None] - np.arange(lags) * (SECOND_NS // d.GRID_NS)]
    y = day.point("direction_sign")[:, None] * (y - day.point("level_tick")[:, None] * 0.25)
    result = {}
    for w in d.FIT_MIN:
        x = -np.arange(60 * w) / (60 * w)
        for degree, (name, factor) in enumerate((("velocity", 1), ("acceleration", 2), ("jerk", 6)), 1):
            row = np.linalg.pinv(np.vander(x, degree + 1))[0]
            result[f"{name}_{w}min"] = y[:, : 60 * w] @ row * factor / (60 * w) ** degree
    return result


def _changes(moved: pl.DataFrame) -> pl.DataFrame:
    """Changed levels only: what a level shows now is gained at its price, what it showed before is lost at its own."""
    found = []
    for side, (s, sign) in enumerate(SIDES):
        parts = []
        for k in range(10):
            px, size, was_px, was_size = (
                f"{w}{s}_{what}_{k:02d}" for w in ("", "was_") for what in ("px", "sz")
            )
            differs = moved.lazy().filter((pl.col(px) != pl.col(was_px)) | (pl.col(size) != pl.col(was_size)))
            limits = pl.max_horizontal(f"{s}_px_09", f"was_{s}_px_09")
            for price, amount in ((px, pl.col(size)), (was_px, -pl.col(was_size))):
                parts.append(
                    differs.filter((pl.col(price) != NONE) & (pl.col(price) >= limits)).select(
                        "ts_event_ns", "ordinal", tick=sign * pl.col(price), delta=amount.cast(pl.Int64)
                    )
                )
        found.append(
            pl.concat(parts)
            .group_by("ts_event_ns", "ordinal", "tick")
            .agg(pl.col("delta").sum())
            .filter(pl.col("delta") != 0)
            .select("ts_event_ns", "tick", "delta", side=pl.lit(side, pl.Int8))
        )
    return pl.concat(found).collect().sort("ts_event_ns")


def _order_flow(moved: pl.DataFrame) -> pl.DataFrame:
    flows = []
    for k in range(10):
        total = pl.lit(0, pl.Int64)
        for s, sign in SIDES:
            px, size, was_px, was_size = (
                pl.col(f"{w}{s}_{what}_{k:02d}") for w in ("", "was_") for what in ("px", "sz")
            )
            gained = pl.when(px >= was_px).then(size).otherwise(0) - pl.when(px <= was_px).then(
                was_size
            ).otherwise(0)
            total += sign * gained.cast(pl.Int64)
        flows.append(total)
    cell = (pl.col("ts_event_ns") // d.GRID_NS + 1) * d.GRID_NS
    return (
        moved.lazy()
        .select(cell=cell, ofi=pl.sum_horizontal(flows), ofi_1=flows[0])
        .group_by("cell", maintain_order=True)
        .sum()
        .collect()
    )


def _depth(s: str, sign: int, centre: pl.Expr) -> pl.Expr:
    """Displayed size of a side within the zone of ``centre``."""
    return pl.sum_horizontal(
        pl.when((sign * pl.col(f"{s}_px_{k:02d}") - centre).abs() <= d.ZONE_TICKS)
        .then(f"{s}_sz_{k:02d}")
        .otherwise(0)
        for k in range(10)
    ).cast(pl.Int64)


def _carried(
    prints: pl.DataFrame, iv: np.ndarray, spot: np.ndarray, strike: np.ndarray, years: np.ndarray
) -> pl.DataFrame:
    """Gamma by the volatility solved last from the same option within 300 s, else by the default."""
    solved = pl.Series(iv).fill_nan(None)
    filled = prints.with_columns(iv=solved, at=pl.when(solved.is_not_null()).then("ts_event_ns"))
    filled = filled.with_columns(pl.col("iv", "at").forward_fill().over("option_symbol"))
    fresh = (filled["ts_event_ns"] - filled["at"] <= 300 * SECOND_NS).fill_null(value=False)
    sigma = np.where(fresh.to_numpy(), filled["iv"].fill_null(0.2).to_numpy(), 0.2)
    deviation = sigma * np.sqrt(years)
    d1 = (np.log(spot / strike) + d.RISK_FREE * years) / deviation + deviation / 2
    return prints.with_columns(
        gamma=pl.Series(np.exp(-d1 * d1 / 2) / (np.sqrt(2 * np.pi) * spot * deviation))
    )
