"""Training loops that use more than labels, one file each; with the signature of `training.supervised`."""
