"""Binance: own fills, aggregate trades and klines out of recorded REST bodies, websocket captures and archive files.

Parsers are generators: batches of typed rows out, whatever can't be landed to a `Tally`. Nothing here but `load` and
`sync` writes.
Source: spec/execution.md 3.1, 3.4, 3.6, 9.
"""
