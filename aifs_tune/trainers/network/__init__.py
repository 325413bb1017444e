"""The training engine that all networks share."""
