"""Execution bronze straight out of PostgreSQL: one snapshot, keyset pages, windows that a fence seals."""
