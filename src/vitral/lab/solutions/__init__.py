"""One answer to each station. The start file that a reader gets is the same file without what follows each `# TODO`."""
