"""Labels and probabilities of many texts: in memory, and of files of any size."""
