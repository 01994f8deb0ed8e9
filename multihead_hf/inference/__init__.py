"""Using a trained model: predictions of many texts, explanations, a demo page."""
