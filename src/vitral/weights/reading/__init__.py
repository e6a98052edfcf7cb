"""Read the files of a checkpoint without running anything that is in them."""
