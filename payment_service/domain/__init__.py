"""What a payment and a refund are and what may happen to them. Standard library only."""
