"""The pieces in ClickHouse's SQL, in this process by chDB: arrays, as-of joins and higher-order functions."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from chdb.session import Session

from benchmarks import bench_options
from benchmarks.rivals import day as d
from physics.units import SECOND_NS

CHUNK = 1_000_000  # records of the book at a time
LOOK_BACK = 32  # records in which the state before a chunk is found
NONE = -(2**31)
STEPS = 24  # of Newton's method; all prints take them
SIGMA_DEFAULT = 0.2
SO_FAR = "rows between unbounded preceding and current row"


def _levels(s: str, what: str) -> str:
    return "[" + ", ".join(f"{s}_{what}_{k:02d}" for k in range(10)) + "]"


def _keys(s: str, sign: int) -> str:
    """Prices as sign · ticks, so that both sides descend from the best; `NONE` where the level is absent."""
    ticks = [f"if({s}_sz_{k:02d} > 0, toInt32({sign} * {s}_px_{k:02d} * 4), {NONE})" for k in range(10)]
    return f"[{', '.join(ticks)}]"


STATES = f"""
select ts_event_ns, ordinal, {_keys("bid", 1)} as bp, {_levels("bid", "sz")} as bs,
    {_keys("ask", -1)} as ap, {_levels("ask", "sz")} as az
from file('{{path}}', Parquet)
where ordinal >= {{first}} and ordinal < {{last}} and flags >= 128 and action not in ('T', 'F', 'N', 'R')
"""
MOVED = """
select *, lagInFrame(bp) over w as bp0, lagInFrame(bs) over w as bs0, lagInFrame(ap) over w as ap0,
    lagInFrame(az) over w as az0, row_number() over w as n
from ({states}) window w as (order by ordinal rows between 1 preceding and current row)
"""
CHANGES = """
insert into tape
select ts_event_ns, side, if(side = 0, key, -key) as tick, sum(amount) as delta
from (
    select ts_event_ns, ordinal, side, c.1 as key, c.2 as amount
    from (
        select ts_event_ns, ordinal, s.1 as side, s.2 as p, s.3 as z, s.4 as p0, s.5 as z0
        from moved array join [tuple(0, bp, bs, bp0, bs0), tuple(1, ap, az, ap0, az0)] as s
    )
    array join arrayFilter(
        c -> c.1 != {none} and c.1 >= greatest(p[10], p0[10]),
        arrayConcat(
            arrayFilter((c, i) -> p[i] != p0[i] or z[i] != z0[i], arrayZip(p, z), range(1, 11)),
            arrayFilter((c, i) -> p[i] != p0[i] or z[i] != z0[i], arrayZip(p0, arrayMap(x -> -x, z0)), range(1, 11))
        )
    ) as c
)
group by ts_event_ns, ordinal, side, key having delta != 0
"""
FLOW = """
insert into flow
select (intDiv(ts_event_ns, {grid}) + 1) * {grid} as cell, sum(arraySum(e)) as ofi, sum(e[1]) as ofi_1
from (
    select ts_event_ns, arrayMap(
        (p, z, p0, z0, q, y, q0, y0) ->
            toInt64(if(p >= p0, z, 0)) - if(p <= p0, z0, 0) - if(q >= q0, y, 0) + if(q <= q0, y0, 0),
        bp, bs, bp0, bs0, ap, az, ap0, az0
    ) as e
    from moved
)
group by cell
"""
CELLS = """
insert into cells
select (intDiv(ts_event_ns, {grid}) + 1) * {grid} as cell, max(ordinal) as last_ordinal, argMax(bp, ordinal),
    argMax(bs, ordinal), argMax(ap, ordinal), argMax(az, ordinal)
from moved group by cell
"""


def _depth(p: str, z: str, sign: int, centre: str) -> str:
    return f"arraySum((p, z) -> if(abs({sign} * p - {centre}) <= {d.ZONE_TICKS}, z, 0), {p}, {z})"


class ClickHouse:
    def __init__(self, day: d.Day) -> None:
        self.day = day
        self.session = Session()
        points = day.points.select(["asof_ns", "level_tick", "direction_sign"])
        numbered = points.append_column("point", pa.array(np.arange(points.num_rows, dtype=np.int32)))
        path = day.trades.with_name("points.parquet")
        pq.write_table(numbered, path)
        for statement in (
            "create database if not exists rival engine = Atomic",
            "use rival",
            f"create table points engine = Memory as select * from file('{path}', Parquet)",
            "create table tape (ts_event_ns Int64, side UInt8, tick Int32, delta Int64) engine = Memory",
            "create table flow (cell Int64, ofi Int64, ofi_1 Int64) engine = Memory",
            "create table cells (cell Int64, last_ordinal Int64, bp Array(Int32), bs Array(Int32), ap Array(Int32), "
            "az Array(Int32)) engine = Memory",
            "create table moved (ts_event_ns Int64, ordinal Int64, bp Array(Int32), bs Array(Int32), ap Array(Int32), "
            "az Array(Int32), bp0 Array(Int32), bs0 Array(Int32), ap0 Array(Int32), az0 Array(Int32)) engine = Memory",
        ):
            self.session.query(statement)

    def _columns(self, sql: str) -> dict[str, np.ndarray]:
        table = self.session.query(sql, "ArrowTable")
        return {name: table[name].to_numpy() for name in table.column_names}

    def bars(self) -> dict[str, np.ndarray]:
        aggregates = """argMin(tick, ordinal) as o, max(tick) as h, min(tick) as l, argMax(tick, ordinal) as c,
            sum(size)::Int64 as v, sum(toInt64(tick) * size)::Int64 as n, sum(size * aggressor)::Int64 as s,
            count()::Int64 as k"""
        again = """argMin(o, start_s) as o, max(h) as h, min(l) as l, argMax(c, start_s) as c,
            sum(v)::Int64 as v, sum(n)::Int64 as n, sum(s)::Int64 as s, sum(k)::Int64 as k"""
        self.session.query("drop table if exists bars")
        self.session.query(
            f"""create table bars engine = Memory as
            select 1 as w, intDiv(ts_event_ns, {SECOND_NS}) as start_s, {aggregates}
            from file('{self.day.trades}', Parquet) group by start_s"""
        )
        for width, narrower in ((60, 1), (120, 60)):
            self.session.query(
                f"""insert into bars select {width}, start, {again.replace("as ", "as x_")} from (
                    select *, intDiv(start_s, {width}) * {width} as start from bars where w = {narrower}
                ) group by start"""
            )
        return self._columns("select * from bars order by w, start_s")

    # -- the book ------------------------------------------------------------------------------------------------

    def book(self) -> dict[str, np.ndarray]:
        rows = pq.ParquetFile(self.day.book).metadata.num_rows
        for first in range(0, rows, CHUNK):
            states = STATES.format(path=self.day.book, first=max(first - LOOK_BACK, 0), last=first + CHUNK)
            self.session.query("truncate table moved")
            self.session.query(
                f"insert into moved select * except (n) from ({MOVED.format(states=states)}) "
                f"where n > 1 and ordinal >= {first} settings max_block_size = 65536"
            )
            self.session.query(CHANGES.format(none=NONE))
            self.session.query(FLOW.format(grid=d.GRID_NS))
            self.session.query(CELLS.format(grid=d.GRID_NS))
        flow = self._columns(
            "select cell, sum(ofi) as ofi_, sum(ofi_1) as ofi_1_ from flow group by cell "
            "having ofi_ != 0 or ofi_1_ != 0 order by cell"
        )
        told = self._columns(
            "select count()::Int64 as a, sum(delta) as b, sum(abs(delta))::Int64 as c, sum(delta * tick) as e from tape"
        )
        changes = np.array([int(told[name][0]) for name in "abce"])
        return {"cell": flow["cell"], "ofi": flow["ofi_"], "ofi_1": flow["ofi_1_"], "changes": changes}

    def barrier(self) -> dict[str, np.ndarray]:
        minute = 60 * SECOND_NS
        window = d.BARRIER_S * SECOND_NS
        seconds = (d.CLOSE_NS - d.OPEN_NS) // SECOND_NS + 1
        sql = f"""
        with wanted as (
            select point, asof_ns, toUInt8(direction_sign > 0) as side,
                arrayJoin(range(
                    toUInt64(intDiv(asof_ns - {window}, {minute})), toUInt64(intDiv(asof_ns, {minute}) + 1)
                )) as bucket,
                toInt32(level_tick + arrayJoin(range({2 * d.ZONE_TICKS + 1})) - {d.ZONE_TICKS}) as tick
            from points
        ),
        sums as (
            select point, sumIf(delta, delta > 0) as added, -sumIf(delta, delta < 0) as lost
            from (select *, toUInt64(intDiv(ts_event_ns, {minute})) as bucket from tape) as t
            inner join wanted on t.bucket = wanted.bucket and t.side = wanted.side and t.tick = wanted.tick
            where ts_event_ns >= asof_ns - {window} and ts_event_ns < asof_ns
            group by point
        ),
        states as (
            select 1 as one, cell, argMax(bp, last_ordinal) as bp, argMax(bs, last_ordinal) as bs,
                argMax(ap, last_ordinal) as ap, argMax(az, last_ordinal) as az
            from cells group by cell
        ),
        seconds as (
            select at, if(cell = 0, null, toFloat64({_depth("bp", "bs", 1, "middle")})) as bid,
                if(cell = 0, null, toFloat64({_depth("ap", "az", -1, "middle")})) as ask
            from (
                select at, cell, bp, bs, ap, az, (bp[1] - ap[1]) / 2 as middle
                from (
                    select 1 as one, toInt64({d.OPEN_NS} + number * {SECOND_NS}) as at from numbers({seconds})
                ) as g
                asof left join states on g.one = states.one and g.at >= states.cell
            )
        ),
        walls as (
            select point, quantileExactInclusive(0.5)(if(direction_sign > 0, ask, bid)) as wall
            from (
                select point, direction_sign,
                    toInt64(intDiv(asof_ns, {SECOND_NS}) - arrayJoin(range({d.WALL_S}))) * {SECOND_NS} as at
                from points
            ) as p
            inner join seconds on p.at = seconds.at
            group by point
        ),
        now as (
            select point, asof_ns, direction_sign,
                if(
                    direction_sign > 0, {_depth("ap", "az", -1, "level_tick")},
                    {_depth("bp", "bs", 1, "level_tick")}
                ) as depth
            from (select *, 1 as one from points) as p
            asof left join states on p.one = states.one and p.asof_ns >= states.cell
        )
        select added, lost, toInt64(depth) as depth, depth / wall as wall_ratio
        from now inner join walls on now.point = walls.point left join sums on now.point = sums.point
        order by now.point
        """
        return self._columns(sql)

    # -- prints --------------------------------------------------------------------------------------------------

    def tape(self) -> dict[str, np.ndarray]:
        sql = f"""
        with wanted as (
            select point, asof_ns, level_tick,
                toInt64(intDiv(asof_ns, {SECOND_NS}) - arrayJoin(range({d.TAPE_S + 1}))) as second
            from points
        )
        select sumIf(size, abs(tick - level_tick) <= {d.BAND_TICKS} and aggressor = 1)::Int64 as tape_buy_vol,
            sumIf(size, abs(tick - level_tick) <= {d.BAND_TICKS} and aggressor = -1)::Int64 as tape_sell_vol,
            covarPopStable(t, price) / varPopStable(t) as tape_price_slope_60s,
            covarPopStableIf(t, price, t >= -15) / varPopStableIf(t, t >= -15) as tape_price_slope_15s
        from (
            select point, size, tick, level_tick, aggressor, (ts_event_ns - asof_ns) / {SECOND_NS} as t,
                (tick - level_tick) * 0.25 as price
            from (
                select *, intDiv(ts_event_ns, {SECOND_NS}) as second from file('{self.day.trades}', Parquet)
            ) as trades
            inner join wanted on trades.second = wanted.second
            where ts_event_ns < asof_ns and ts_event_ns >= asof_ns - {d.TAPE_S * SECOND_NS}
        )
        group by point order by point
        """
        return self._columns(sql)

    def _with_spot(self, prints: str) -> str:
        spots = f"""select 1 as one, ts_event_ns as t, argMax(tick, ordinal) as spot_tick
            from file('{self.day.trades}', Parquet) group by t"""
        return f"""(select *, 1 as one from file('{prints}', Parquet)) as prints
            asof inner join ({spots}) as spots on prints.one = spots.one and prints.ts_event_ns > spots.t"""

    def ratio(self) -> dict[str, np.ndarray]:
        sql = f"""
        select toInt64(g) as asof_ns, quantileExactInclusive(0.5)(r) as es_spy_ratio
        from (
            select spot_tick * 0.25 / price as r,
                (intDiv(ts_event_ns, {SECOND_NS}) + 1 + arrayJoin(range(60))) * {SECOND_NS} as g
            from {self._with_spot(self.day.spy)} where ts_event_ns - t <= {SECOND_NS}
        )
        where g < {d.CLOSE_NS} group by g having count() >= 5 order by g
        """
        return self._columns(sql)

    def greeks(self) -> dict[str, np.ndarray]:
        tail = "0.5 * erfc(({}) / sqrt(2))"
        value = f"exp(-h / 2) * {tail.format('h / s - s / 2')} - exp(h / 2) * {tail.format('h / s + s / 2')}"
        density = "exp(-(h / s * h / s + s * s / 4) / 2) / sqrt(2 * pi())"
        step = f"greatest(least(s - (({value}) - wanted) / ({density}), 5 * root_t), 0.01 * root_t)"
        self.session.query("drop table if exists priced")
        self.session.query(
            f"""
            create table priced engine = Memory as
            select ts_event_ns, ordinal, option_symbol, strike_milli, size, aggressor, spot, strike, root_t, l,
                if(value <= 0 or value >= least(forward, strike) or iv <= 0.01 or iv >= 5, nan, iv) as iv
            from (
                select *, value / sqrt(forward * strike) as wanted, abs(l) as h,
                    if(h < 1e-6, sqrt(2 * pi()) * value / forward, sqrt(2 * h)) as start,
                    toFloat64(greatest(least(start, 5 * root_t), 0.01 * root_t)) as first,
                    arrayFold((s, x) -> {step}, range({STEPS}), first) / root_t as iv
                from (
                    select *, spot + spot * growth as forward, log1p((spot - strike) / strike) + rt as l,
                        sqrt(years) as root_t,
                        least(
                            price + price * growth,
                            price + sign * (strike - spot) + (price - sign * spot) * growth
                        ) as value
                    from (
                        select ts_event_ns, ordinal, option_symbol, strike_milli, right, price, size, aggressor,
                            spot_tick * 0.25 / {d.ES_SPY} as spot, strike_milli / 1000 as strike,
                            if(right = 'C', 1, -1) as sign,
                            greatest({d.EXPIRY_NS} - ts_event_ns, {60 * SECOND_NS}) / {bench_options.YEAR_NS} as years,
                            {d.RISK_FREE} * years as rt, rt + rt * rt / 2 + rt * rt * rt / 6 as growth
                        from {self._with_spot(self.day.options)}
                    )
                )
            )
            """
        )
        return self._columns(
            """
            select iv, exp(-d1 * d1 / 2) / (sqrt(2 * pi()) * spot * iv * root_t) as gamma
            from (select *, l / (iv * root_t) + iv * root_t / 2 as d1 from priced) order by ordinal
            """
        )

    def gamma(self) -> dict[str, np.ndarray]:
        self.session.query("drop table if exists totals")
        self.session.query(
            f"""
            create table totals engine = Memory as
            select strike_milli, ts_event_ns, argMax(total, ordinal) as total
            from (
                select strike_milli, ts_event_ns, ordinal, sum(flow) over (
                    partition by strike_milli order by ts_event_ns, ordinal {SO_FAR}
                ) as total
                from (
                    select *,
                        if(isNaN(latest) or ts_event_ns - at > {300 * SECOND_NS}, {SIGMA_DEFAULT}, latest) as sigma,
                        sigma * root_t as s,
                        l / s + s / 2 as d1,
                        -aggressor * size * 100 * exp(-d1 * d1 / 2) / (sqrt(2 * pi()) * spot * s) as flow
                    from (
                        select *, last_value(if(isNaN(iv), null, iv)) over w as latest_, ifNull(latest_, nan) as latest,
                            last_value(if(isNaN(iv), null, ts_event_ns)) over w as at
                        from priced
                        window w as (partition by option_symbol order by ts_event_ns, ordinal {SO_FAR})
                    )
                )
            )
            group by strike_milli, ts_event_ns
            """
        )
        ages = (0, *d.GAMMA_S)
        sql = f"""
        with near as (
            select point, asof_ns, strike_milli, arrayJoin({list(ages)}) as age, asof_ns - age * {SECOND_NS} as at
            from points cross join (select distinct strike_milli from totals) as strikes
            where abs(strike_milli - floor(level_tick * 0.25 / {d.ES_SPY} * 1000 + 0.5)) <= {1000 * d.STRIKE_RANGE}
        )
        select point, {", ".join(f"sumIf(total, age = {age}) as a{age}" for age in ages)}
        from near asof left join totals on near.strike_milli = totals.strike_milli and near.at > totals.ts_event_ns
        group by point order by point
        """
        found = self._columns(sql)
        return {"session": found["a0"], **{str(age): found["a0"] - found[f"a{age}"] for age in d.GAMMA_S}}

    def kinematics(self) -> dict[str, np.ndarray]:
        cells = (d.CLOSE_NS - d.OPEN_NS) // d.GRID_NS + 1
        lags = 60 * max(d.FIT_MIN)
        outputs = []
        for w in d.FIT_MIN:
            x = -np.arange(60 * w) / (60 * w)
            for degree, (name, factor) in enumerate((("velocity", 1), ("acceleration", 2), ("jerk", 6)), 1):
                row = np.linalg.pinv(np.vander(x, degree + 1))[0] * factor / (60 * w) ** degree
                weights = "[" + ",".join(map(repr, row.tolist())) + "]"
                outputs.append(f"sumIf(y * ({weights}[lag + 1]), lag < {60 * w}) as {name}_{w}min")
        sql = f"""
        with states as (
            select 1 as one, cell, (argMax(bp[1], last_ordinal) - argMax(ap[1], last_ordinal)) * 0.125 as mid
            from cells group by cell
        ),
        mids as (
            select at, mid
            from (select 1 as one, toInt64({d.OPEN_NS} + number * {d.GRID_NS}) as at from numbers({cells})) as g
            asof left join states on g.one = states.one and g.at >= states.cell
        )
        select {", ".join(outputs)}
        from (
            select point, lag, direction_sign * (mid - level_tick * 0.25) as y
            from (
                select *, arrayJoin(range({lags})) as lag, asof_ns - toInt64(lag) * {SECOND_NS} as at from points
            ) as p
            inner join mids on p.at = mids.at
        )
        group by point order by point settings max_query_size = 10000000
        """
        return self._columns(sql)
