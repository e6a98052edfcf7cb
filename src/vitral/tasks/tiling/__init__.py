"""What predicting in tiles is made of: the model's reach, the tiles' size, the blending, and what a resumed run needs."""
