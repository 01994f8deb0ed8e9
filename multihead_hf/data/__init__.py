"""Data: reading, label encoding, tokenization, splits and batches."""
