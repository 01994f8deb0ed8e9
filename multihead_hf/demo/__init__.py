"""The demo page, and the Space that shows it."""
