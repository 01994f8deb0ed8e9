"""What travels with every saved model: torch, transformers and the standard library only."""
