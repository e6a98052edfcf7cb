"""What a method must beat: maps that know nothing of the model, or of what it learned."""
