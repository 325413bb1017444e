"""Networks: their architectures and hyperparameters."""
