"""Metrics, thresholds, reports and plots of a multi-head model."""
