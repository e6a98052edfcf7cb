"""Questions put to models and data by training and measuring; a file each."""
