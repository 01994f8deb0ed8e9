"""Helpers that every package uses and that use no other package."""
