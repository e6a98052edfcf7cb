"""Published checkpoints, in and out: `sources/` holds a file for each format, found by what is in the file itself."""
