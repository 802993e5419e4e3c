"""The benches run on a small day and measure what they say; no time is asserted."""

import pyarrow.parquet as pq

from benchmarks import bench_options
from benchmarks import bench_physics as bench


def test_every_bench_runs_on_a_small_day(tmp_path):
    day = bench.make_day(tmp_path, rows=20_000)
    assert pq.ParquetFile(day["mbp10"]).metadata.num_rows == 20_000
    silver = bench.write_silver(day["mbp10"], tmp_path)
    assert pq.ParquetFile(silver["tape"]).metadata.num_rows > 10_000
    assert bench.observation_points(day["trades"], 50).num_rows == 50
    figures = [
        *(
            f(day["mbp10"], runs=1)
            for f in (
                bench.bench_book_pass,
                bench.bench_book_tape,
                bench.bench_book_states,
                bench.bench_bbo_changes,
            )
        ),
        bench.bench_ofi_cells(day["mbp10"], days=2, runs=1),
        *(
            f(silver, day["trades"], points=50, runs=1)
            for f in (bench.bench_barrier, bench.bench_ofi, bench.bench_kinematics)
        ),
        *(f(day["trades"], points=50, runs=1) for f in (bench.bench_tape, bench.bench_outcomes)),
        bench.bench_touches(day["trades"], runs=1),
    ]
    assert all({"scan_cpu_s", "cpu_s", "ratio", "peak_mb"} <= figure.keys() for figure in figures)
    assert all(figure["ratio"] > 0 for figure in figures)


def test_the_bench_of_options_holds_both_sides_to_each_other():
    figures = bench_options.bench(bench_options.make_day(20_000), runs=1)
    assert figures["rows"] == 20_000
    assert figures["solved"] > 0.8
    assert figures["rival_us"] > 0
