"""What a caller can have done: one module per use case."""
