"""Secrets and personal data out of free text, before a row is hashed or landed.

The rules are the seed ``redaction_rules``: a rule with a ``path`` replaces the value of that key anywhere in an object
of JSON; one with a ``pattern`` (path ``*``) replaces what it matches in free text and in every string leaf. Columns
of ids, tokens and hashes are exempt. A second pass changes nothing. Source: spec/execution.md 8.4.
"""

from __future__ import annotations

import csv
import functools
import re
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from ingest.json_text import canonical, parse
from lake.paths import PROJECT_DIR

REPLACEMENT = "[REDACTED]"
RULES = PROJECT_DIR / "seeds" / "reference" / "redaction_rules.csv"
TEXT_COLUMNS = ("error_message", "description")
JSON_COLUMNS = ("payload_json", "raw_response", "balances", "_extra")


@dataclass(frozen=True)
class Redaction:
    """The compiled rules. ``suspect`` is a pattern of RE2 that every text with something to redact matches."""

    keys: frozenset[str]
    patterns: tuple[re.Pattern[str], ...]
    suspect: str
    suspect_json: str
    keyed_text: re.Pattern[str]

    def text(self, text: str) -> str:
        """Free text without what the patterns match."""
        while True:
            before = text
            for pattern in self.patterns:
                text = pattern.sub(REPLACEMENT, text)
            if text == before:
                return text

    def value(self, value: object) -> object:
        """A parsed value of JSON with its string leaves and the values of the listed keys redacted."""
        match value:
            case dict():
                return {
                    key: REPLACEMENT if key in self.keys and inner is not None else self.value(inner)
                    for key, inner in value.items()
                }
            case list():
                return [self.value(inner) for inner in value]
            case str():
                return self.text(value)
            case _:
                return value

    def json(self, text: str) -> str:
        """Canonical JSON text, redacted; canonical again."""
        return canonical(self.value(parse(text)))

    def raw(self, text: str) -> str:
        """A line that could not be landed, whatever it is: keys with their values by pattern, then free text."""
        return self.text(self.keyed_text.sub(rf'\1"{REPLACEMENT}"', text))

    def table(self, table: pa.Table) -> pa.Table:
        """``table`` with the columns of free text and of JSON redacted; untouched ones are not copied."""
        for names, suspect, redact in (
            (TEXT_COLUMNS, self.suspect, self.text),
            (JSON_COLUMNS, self.suspect_json, self.json),
        ):
            for name in names:
                index = table.schema.get_field_index(name)
                if index < 0:
                    continue
                column = table.column(index)
                hits = pc.fill_null(pc.match_substring_regex(column, suspect), False)
                if not pc.any(hits).as_py():
                    continue
                values = column.to_pylist()
                for row in pc.indices_nonzero(hits).to_pylist():
                    values[row] = redact(values[row])
                table = table.set_column(index, table.schema.field(index), pa.array(values, pa.string()))
        return table


@functools.cache
def redaction() -> Redaction:
    """The rules of the seed, compiled once."""
    with RULES.open(newline="") as file:
        rules = list(csv.DictReader(file))
    keys = frozenset(rule["path"] for rule in rules if rule["path"] != "*")
    patterns = [rule["pattern"] for rule in rules if rule["path"] == "*"]
    names = "|".join(map(re.escape, sorted(keys, key=len, reverse=True)))
    # An escape of JSON may stand where the text has a blank, so word boundaries don't narrow the search.
    suspect = "|".join(f"(?:{pattern})" for pattern in patterns).replace(r"\b", "")
    return Redaction(
        keys=keys,
        patterns=tuple(re.compile(pattern) for pattern in patterns),
        suspect=suspect,
        suspect_json=f'"(?:{names})":|{suspect}',
        keyed_text=re.compile(rf'("(?:{names})"\s*:\s*)("(?:[^"\\]|\\.)*"?|[^,}}\]\s"]+)', re.DOTALL),
    )
