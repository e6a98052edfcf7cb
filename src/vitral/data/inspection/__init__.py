"""What to know about a folder of images before a model is trained on it."""
