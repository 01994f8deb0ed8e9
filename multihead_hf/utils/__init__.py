"""Helpers without imports from the other subpackages."""
