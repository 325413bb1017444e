"""What a lab may say of its results: comparisons that allow for chance, and scores of data that no trial saw."""
