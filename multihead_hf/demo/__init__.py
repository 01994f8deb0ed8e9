"""Demo page, and the Space that shows it."""
