"""HTTP service: the studies of a storage for instruments and people elsewhere."""
