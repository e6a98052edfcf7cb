"""What a method must beat to have said anything: maps that know nothing of the model, or of what it learned."""
