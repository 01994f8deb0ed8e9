"""Using a trained model: the demo page."""
