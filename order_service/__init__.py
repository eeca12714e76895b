"""Orders: their life cycle, their payment, their history."""
