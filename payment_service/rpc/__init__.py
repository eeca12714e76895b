"""The contract's side: decode, use case, encode."""
