"""Names in a training checkpoint's folder, `RUN/checkpoints/step-000200`: training writes it, loading reads it."""

PREFIX, WEIGHTS = "step-", "weights.safetensors"
