"""Training: arguments, optimiser groups and the Trainer."""
