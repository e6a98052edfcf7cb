"""Other ways to train a model than from labels alone, a file each; with the signature of `training.supervised`."""
