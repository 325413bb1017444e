"""What the best configuration of a sweep is compared with on held-out data."""
