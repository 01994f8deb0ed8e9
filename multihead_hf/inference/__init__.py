"""Using a trained model: probabilities for other tools, explanations of one prediction, and the demo page."""
