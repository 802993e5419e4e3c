"""Mutated answers of the vendor: what can't be used is refused in a line, what is used says what the answer says."""

import datetime
import json
from collections.abc import Callable
from typing import Any

import pytest
import requests

from ingest.databento.vendor import Vendor, VendorFile
from ingest.errors import FailedFile
from ingest.http_retry import RetryPolicy
from tests.fixtures import fuzz
from tests.fixtures.databento_server import KEY
from tests.unit.ingest.databento_kit import query

SEED = 20251006
URL = "http://127.0.0.1:9"
JOB = {
    "id": "GLBX-20251006-ABCDEF", "state": "done", "symbols": "ES.FUT,NQ.FUT", "dataset": "GLBX.MDP3",
    "schema": "trades", "stype_in": "parent", "encoding": "dbn", "compression": "zstd",
    "start": "2025-10-06T00:00:00", "end": "2025-10-08T00:00:00", "split_duration": "day", "cost_usd": 1.5,
}  # fmt: skip
FILES = [
    {
        "filename": f"glbx-mdp3-2025100{day}.trades.dbn.zst",
        "size": 1000 + day,
        "hash": "sha256:" + f"{day}" * 64,
        "urls": {"https": f"{URL}/v0/batch/download/A/{day}", "ftp": "ftp://x"},
    }
    for day in (6, 7)
]
SINCE = datetime.datetime(2025, 10, 1, tzinfo=datetime.UTC)


def _declares(found: tuple[int, int, float], said: Any) -> bool:
    """The count, the size and the cost are the same answer here."""
    return found == (0, 0, 0.0) or found == (said, said, float(said))


def _lists(found: list[VendorFile], said: Any) -> bool:
    told = [(e["filename"], e["size"], e["hash"].removeprefix("sha256:"), e["urls"]["https"]) for e in said]
    plain = all("/" not in f.name and not f.name.startswith(".") for f in found)
    return plain and [(f.name, f.bytes, f.sha256, f.url) for f in found] == told


QUESTIONS: dict[str, tuple[object, Callable[[Vendor], Any], Callable[[Any, Any], bool]]] = {
    "datasets": (
        ["GLBX.MDP3", "XNAS.ITCH"],
        lambda v: v.datasets(),
        lambda found, said: found == [str(s) for s in said],
    ),
    "count": (1234567, lambda v: v.declared(query(), "trades", datetime.date(2025, 10, 6)), _declares),
    "symbols": (
        {"result": {}, "symbols": ["ES.FUT"], "not_found": ["XX.FUT"], "partial": [], "status": 0},
        lambda v: v.unknown_symbols(query()),
        lambda found, said: found == ([*map(str, said["not_found"])], [*map(str, said["partial"])]),
    ),
    "job": (JOB, lambda v: v.job("J"), lambda found, said: found["id"] == said["id"]),
    "jobs": ([JOB, JOB], lambda v: v.jobs(SINCE), lambda found, said: len(found) == len(said)),
    "files": (FILES, lambda v: v.files("J"), _lists),
}


@pytest.mark.parametrize(
    "count", [pytest.param(300, id="sample"), pytest.param(100_000, marks=pytest.mark.long, id="full")]
)
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_damaged_answer_is_used_as_it_stands_or_refused(
    question: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, ask, is_same = QUESTIONS[question]
    vendor = Vendor(KEY, URL, policy=RetryPolicy(attempts=1, sleep=lambda _: None))
    response = requests.Response()
    response.status_code = 200
    response._content_consumed = True
    monkeypatch.setattr(requests.Session, "request", lambda *_, **__: response)
    refusals: set[str] = set()
    used = 0
    for number, data in fuzz.many(SEED, count, [json.dumps(answer).encode()]):
        response._content = data
        try:
            found = ask(vendor)
        except FailedFile as error:
            refusals.add(str(error))
            continue
        assert is_same(found, response.json()), (number, data)
        used += 1
    assert count // 50 < used < count * 49 // 50
    assert refusals
    assert all(text and "\n" not in text for text in refusals)
