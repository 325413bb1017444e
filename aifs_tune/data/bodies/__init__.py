"""Frames with many bodies each: catalogues, tiles and masks."""
