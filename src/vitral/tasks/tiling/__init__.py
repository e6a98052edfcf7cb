"""What predicting in tiles is made of: the model's reach, the tiles, their blending, the journal of a run."""
