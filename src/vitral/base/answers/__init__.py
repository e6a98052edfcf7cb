"""One file per task: what a model's output means."""
