"""Changes to training images that keep their label: a file each, images (B, C, H, W) and a seed to images."""
