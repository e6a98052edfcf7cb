"""What a model does in general, rather than why it answered one image as it did."""
