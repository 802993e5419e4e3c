"""Loaders: one module per source, one shared bronze writer. Raw files in, bronze partitions and receipts
out.
"""
