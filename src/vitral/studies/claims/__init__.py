"""What is said about ViTs, a file each; the folder is the registry."""
