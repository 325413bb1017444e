"""Time series and recordings, cut into windows."""
