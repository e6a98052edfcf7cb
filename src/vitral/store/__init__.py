"""Vitral's own model file, and names that writing and reading share: a training checkpoint's, an exported model's."""

CHECKPOINT_PREFIX, CHECKPOINT_WEIGHTS = "step-", "weights.safetensors"  # RUN/checkpoints/step-000200
ARTIFACT = "artifact.json"  # what an exported model's folder holds
