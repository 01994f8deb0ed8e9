"""A trained model at work: predictions of many texts, explanations, a demo page."""
