"""Random mixtures of two training images and their labels: one file per way to mix (see `data/mix.py`)."""
