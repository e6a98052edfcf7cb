"""Vitral's own model file, and the names in a training checkpoint's folder, which training writes and loading reads."""

CHECKPOINT_PREFIX, CHECKPOINT_WEIGHTS = "step-", "weights.safetensors"  # RUN/checkpoints/step-000200
