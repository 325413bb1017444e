"""Next experiments from the trained models of a table: goals, calibrated uncertainty, candidates and their choice."""
