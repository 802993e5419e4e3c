"""Two messages hashed at once have the hashes that hashlib gives each; so have the digests of tables."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake import digest
from lake.paired_sha256 import _ROUNDS, _START, Sha256, available, update_two

pytestmark = pytest.mark.skipif(not available(), reason="this processor has no instructions for SHA-256")


def some_bytes(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, n, dtype=np.uint8)


def test_the_constants_are_those_of_the_standard() -> None:
    """FIPS 180-4, 4.2.2 and 5.3.3: first and last."""
    assert [hex(v) for v in (_START[0], _START[7], _ROUNDS[0], _ROUNDS[63])] == [
        "0x6a09e667",
        "0x5be0cd19",
        "0x428a2f98",
        "0xc67178f2",
    ]


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300), st.booleans()), max_size=6))
def test_two_messages_in_parts_of_any_size(parts: list[tuple[int, int, bool]]) -> None:
    ours, theirs = (Sha256(), Sha256()), (hashlib.sha256(), hashlib.sha256())
    for number, (n, m, equal) in enumerate(parts):
        a = some_bytes(64 * n if equal and n % 2 else n, 2 * number)
        b = some_bytes(len(a) if equal else m, 2 * number + 1)
        update_two(ours[0], a, ours[1], b)
        theirs[0].update(a)
        theirs[1].update(b)
        assert [h.digest() for h in ours] == [h.digest() for h in theirs]


def big_table(rows: int) -> pa.Table:
    """Columns of all widths, constant at first or throughout or not at all, with NULLs and texts of one length."""
    rng = np.random.default_rng(rows)
    texts = pa.array(["three", "seven", "eight"])
    columns: dict[str, object] = {f"i{k}": rng.integers(0, 50, rows).astype("<i8") for k in range(3)}
    columns |= {f"s{k}": rng.integers(0, 50, rows).astype("<i4") for k in range(4)}
    columns |= {
        "narrow": rng.integers(0, 50, rows).astype("<i2"),
        "constant": np.full(rows, 7, dtype="<i4"),
        "real": rng.random(rows),
        "maybe": pa.array(rng.integers(0, 9, rows), mask=rng.random(rows) < 0.1),
        "text": pa.DictionaryArray.from_arrays(pa.array(rng.integers(0, 3, rows), pa.int8()), texts),
        "flag": pa.array(rng.random(rows) < 0.5),
        "decimal": pa.array(rng.integers(0, 9, rows)).cast(pa.decimal128(30, 2)),
    }
    return pa.table(columns)


@pytest.mark.parametrize("sizes", [[8192], [20_000, 8192 * 3, 5, 9000], [100, 20_000], [16_384, 16_384]])
def test_a_table_has_one_digest_with_and_without_pairs(
    sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = big_table(sum(sizes))
    chunked = pa.concat_tables(
        [table.slice(0, 8192), table.slice(8192)]
    )  # two updates of one column in a batch
    found = set()
    for pairs in (True, False):
        monkeypatch.setattr(digest, "_has_pairs", lambda pairs=pairs: pairs)
        for given_table in (table, chunked):
            one = digest.ContentDigest(table.schema)
            at = 0
            for size in sizes:
                one.update(given_table.slice(at, size))
                at += size
            found.add(one.hexdigest())
    assert len(found) == 1
