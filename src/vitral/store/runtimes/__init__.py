"""The libraries that run an exported model, each behind the same small interface: a file per library."""
