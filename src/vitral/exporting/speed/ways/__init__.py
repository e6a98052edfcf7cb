"""The ways of running a model: a file per library, each with a tuple of `Way` by the name of the file."""
