"""Using a trained model: probabilities for other tools, and explanations of one prediction."""
