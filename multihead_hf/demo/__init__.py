"""Demo page of a model, and the Hugging Face Space that shows it."""
