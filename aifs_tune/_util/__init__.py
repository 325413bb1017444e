"""Private utilities that know nothing of hyperparameter tuning."""
