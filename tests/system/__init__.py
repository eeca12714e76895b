"""Both services together, over the wire."""
