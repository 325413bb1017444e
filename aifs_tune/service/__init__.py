"""HTTP service that serves the studies of a storage to instruments, programs and browsers."""
