"""The parts of a training report that differ between tasks: one file per task, found by its name."""
