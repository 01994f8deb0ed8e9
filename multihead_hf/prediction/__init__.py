"""Prediction of many texts, in memory or from files of any size."""
