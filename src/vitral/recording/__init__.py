"""See what a model does while it runs: `vitral.watch`, and what it needs."""
