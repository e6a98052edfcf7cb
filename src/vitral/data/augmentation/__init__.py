"""Random changes to training images that keep their labels: one file per augmentation (see `data/augment.py`)."""
