"""Command line of aifs_tune."""
