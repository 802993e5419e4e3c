"""What a vendor said of a file before it came, to be held against the bytes."""

from __future__ import annotations

from dataclasses import dataclass

from ingest.errors import RefusedFile


@dataclass(frozen=True)
class Expected:
    """The entry of a delivery list; None where the vendor said nothing.

    ``request_id`` and ``downloaded_at`` (UTC, ``…Z``) go into the file's receipt.
    """

    request_id: str | None = None
    downloaded_at: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    record_count: int | None = None

    def check_file(self, size: int, sha256: str) -> None:
        """Raise RefusedFile when size or checksum are not those of the delivery list.

        Source: spec/market.md 3.1.
        """
        if self.bytes is not None and size != self.bytes:
            raise RefusedFile(
                f"file was {size:,} bytes, expected {self.bytes:,} by the vendor's list; fetch it again"
            )
        if self.sha256 is not None and sha256 != self.sha256:
            raise RefusedFile(
                f"sha256 was {sha256[:16]}…, expected {self.sha256[:16]}… by the vendor's list; fetch it again"
            )

    def check_records(self, record_count: int) -> None:
        """Raise RefusedFile when the file holds another number of records than declared."""
        if self.record_count is not None and record_count != self.record_count:
            raise RefusedFile(
                f"file held {record_count:,} records, expected {self.record_count:,} as declared; "
                "fetch it again"
            )
