"""Private utilities that are independent of hyperparameter tuning."""
