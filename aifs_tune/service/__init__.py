"""The lab's service: the studies of a storage over HTTP, for instruments and people elsewhere."""
