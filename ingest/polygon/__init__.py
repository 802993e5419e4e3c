"""Polygon / Massive trades: flat files, S3 and the REST interface, all through one parser."""
