"""What goes to the Hub beside the model itself."""
