"""A model and its preprocessing as files for other runtimes; each is compared with the model before it is kept."""
