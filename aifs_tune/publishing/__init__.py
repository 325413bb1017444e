"""Publishing: reports to read and bundles to share."""
