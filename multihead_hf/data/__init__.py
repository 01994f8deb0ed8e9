"""From a user's table to padded tensors."""
