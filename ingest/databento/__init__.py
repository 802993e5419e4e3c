"""Ordering from Databento: what it costs first, then the files, each paid for once.

`request` says what is wanted, `ledger` what was ordered and how far it came, `vendor` speaks to the server
through the official client, `download` brings files to disk, `run` is the call as a whole.
"""

from ingest.databento.report import Report
from ingest.databento.request import Query
from ingest.databento.run import fetch_and_land
from ingest.databento.vendor import Vendor

__all__ = ["Query", "Report", "Vendor", "fetch_and_land"]
