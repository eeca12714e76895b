"""Takes money for orders and gives it back."""
