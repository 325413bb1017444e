"""Training engine that all networks share."""
