"""Time series: reading, scaling, padding and cutting into windows."""
