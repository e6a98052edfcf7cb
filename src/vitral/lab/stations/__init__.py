"""The tests of each station: calls, laws, hints, and how an answer is used in a trained model."""
