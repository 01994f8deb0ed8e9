"""Training: arguments, optimizer groups and the Trainer."""
