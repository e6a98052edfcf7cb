"""Decoders of a `Segmenter`: feature maps of an encoder to one score per class and place."""
