"""Models: hyperparameters, architecture and trainer of each network."""
