"""Images that need not fit into memory: read window by window, and covered by overlapping tiles."""
