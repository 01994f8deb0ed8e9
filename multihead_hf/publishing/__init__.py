"""Files published beside the model, and models in other formats."""
