"""Columns that count in a table, and the graph of those that depend on each other, as a folder."""
