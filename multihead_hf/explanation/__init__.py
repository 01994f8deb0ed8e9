"""Explanations: scores of a text's words for a label."""
