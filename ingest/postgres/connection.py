"""A session on the source server, and its errors, told without a word of the connection string.

The string, or the password in it, is in no message, log or traceback: what libpq says of a failed connection is never
passed on, only which kind of failure it was. Source: spec/execution.md 3.1, 8.4.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ingest.errors import IngestError, SourceUnreachable

LIBPQ = "libpq"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# Taken where neither the string nor libpq's own variable says otherwise: a server that went away is noticed.
_DEFAULTS = {
    "connect_timeout": ("10", "PGCONNECT_TIMEOUT"),
    "application_name": ("tickhouse-ingest", "PGAPPNAME"),
    "keepalives_idle": ("10", None),
    "keepalives_interval": ("5", None),
    "keepalives_count": ("3", None),
    "tcp_user_timeout": ("30000", None),
}
# Row security off: a policy that would hide rows is an error then, and not fewer rows. Asked for when the session
# starts: a setting made later would stay with a pooler's session, for whoever gets it next.
_SETTINGS = {
    "default_transaction_read_only": "on",
    "statement_timeout": "5s",
    "lock_timeout": "1s",
    "row_security": "off",
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "bytea_output": "hex",
}
# Server shutting down or starting, connection lost, too many clients, a conflict with recovery on a standby.
_PASSING = ("08", "57P", "53300", "40001", "25P03")
_TOLD = {
    "57014": "a statement took longer than 5 s, expected less; an index on the window column and the key helps",
    "55P03": "a lock on the table was not free within 1 s; run again when the change of the table is done",
    "42501": "the role may not read the table; grant it select on the four source tables",
}
# What the client library says, in words of its own and of the server; no part of it is passed on.
_CONNECT_KINDS = (
    (r"authentication|pg_hba|no password supplied|role .* does not exist", "it refused the role or its password"),
    (r"database .* does not exist", "it has no such database"),
    (r"could not translate host name|name or service not known|resolve", "its host name is not known"),
    (r"refused|no such file", "nothing listens there"),
    (r"timeout|timed out", "it did not answer in time"),
    (r"certificate|ssl", "the two did not agree on TLS"),
)  # fmt: skip
_FINAL_KINDS = {_CONNECT_KINDS[0][1], _CONNECT_KINDS[1][1]}


class Interrupted(IngestError):
    """The connection failed in a way that another attempt may not."""


@dataclass(frozen=True)
class Source:
    """Where a DSN comes from, and the DSN, which prints nowhere."""

    name: str
    conninfo: str = field(repr=False)


def read_source(name: str) -> Source:
    """The DSN that the environment variable ``name`` holds, or the file that ``name_FILE`` names.

    ``libpq``: the standard variables (PGHOST, PGUSER, PGPASSWORD, PGSERVICE, …) say all. Raises ValueError for what is
    no name, without repeating it, and SourceUnreachable when there is no DSN under the name or it can't be read as one.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            "postgres: was not followed by the name of an environment variable, expected such as "
            "postgres:TICKHOUSE_EVENTS_DSN; put the connection string into the variable, never on a command line"
        )
    if name == LIBPQ:
        return Source(name, "")
    text, file = os.environ.get(name), os.environ.get(f"{name}_FILE")
    if not text and file:
        try:
            text = Path(file).read_text()
        except (OSError, UnicodeDecodeError):
            raise SourceUnreachable(
                f"the file that {name}_FILE names could not be read, expected a connection string in it; mend that"
            ) from None
    if not text or not text.strip():
        raise SourceUnreachable(
            f"{name} was not set, expected a PostgreSQL connection string; set it, or {name}_FILE to a file of it"
        )
    source = Source(name, text.strip())
    _parsed(source)
    return source


def connect(source: Source) -> psycopg.Connection:
    """A session in autocommit, read-only, with its timeouts set. Raises SourceUnreachable, or Interrupted."""
    # Its lines name host and user, at any level below error.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    given = _parsed(source)
    defaults = {
        name: value
        for name, (value, variable) in _DEFAULTS.items()
        if name not in given and not (variable and os.environ.get(variable))
    }
    options = [str(given.get("options") or os.environ.get("PGOPTIONS", ""))]
    options += [f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in _SETTINGS.items()]
    problem = None
    try:
        connection = psycopg.connect(
            source.conninfo,
            autocommit=True,
            prepare_threshold=None,
            client_encoding="UTF8",
            options=" ".join(options).strip(),
            **defaults,
        )
    except psycopg.Error as error:
        problem = _connect_problem(source, error)
    if problem is not None:
        raise problem
    with plain_errors(source):
        names = list(_SETTINGS)
        found = connection.execute(
            "select pg_catalog.current_setting(n) from unnest(%s::text[]) as n", [names]
        )
        if [value for (value,) in found] != list(_SETTINGS.values()):
            connection.close()
            raise SourceUnreachable(
                f"the session of {source.name} did not take its settings, expected its timeouts and to be read-only; "
                "a pooler may stand in between, connect to the server itself"
            )
    return connection


@contextlib.contextmanager
def plain_errors(source: Source) -> Iterator[None]:
    """Errors of the server as ours: Interrupted when another attempt may help, else SourceUnreachable."""
    problem = None
    try:
        yield
    except psycopg.Error as error:
        problem = _query_problem(source, error)
    if problem is not None:
        raise problem from None


def _parsed(source: Source) -> dict[str, object]:
    problem = None
    try:
        return conninfo_to_dict(source.conninfo)
    except (psycopg.Error, UnicodeError):  # the message quotes the string
        problem = SourceUnreachable(
            f"{source.name} held no connection string that libpq understands, expected "
            "postgresql://user:password@host:port/database or key=value pairs; correct it"
        )
    raise problem


def _connect_problem(source: Source, error: psycopg.Error) -> IngestError:
    text = str(error)
    kind = next((kind for pattern, kind in _CONNECT_KINDS if re.search(pattern, text, re.IGNORECASE)), None)
    told = f"the server of {source.name} could not be reached: {kind or 'the connection failed'}"
    if kind in _FINAL_KINDS or isinstance(error, psycopg.ProgrammingError):
        return SourceUnreachable(f"{told}; correct {source.name}, nothing was read")
    return Interrupted(told)


def _query_problem(source: Source, error: psycopg.Error) -> IngestError:
    state = error.sqlstate
    if state is None or state.startswith(_PASSING):
        if isinstance(error, psycopg.OperationalError):
            what = "the connection broke" if state is None else f"the server ended the session ({state})"
            return Interrupted(f"reading from {source.name} stopped: {what}")
        state = state or type(error).__name__
    told = _TOLD.get(state, f"the server answered with error {state}, expected rows")
    return SourceUnreachable(f"reading from {source.name} failed: {told}; nothing was published")
