"""What can go wrong with one file of an ingest call. Every message is one line: what was, what was
expected, what to do.
"""


class IngestError(Exception):
    """Base of all errors that concern one file; the other files of the call still land."""


class RefusedFile(IngestError):
    """The bytes of the file can't be landed whole. It goes to ``raw/_quarantine/``; nothing of it enters
    bronze.
    """


class FailedFile(IngestError):
    """The surroundings failed (unreadable file, full disk). Nothing of the file is kept; run again when it
    is mended.
    """


class SourceUnreachable(IngestError):
    """There was no source to read: no file of that name, no server. It must not look like one without news."""
