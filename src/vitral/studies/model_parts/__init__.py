"""Model parts that only studies use."""
