"""Plumbing that both services use, holds no business noun, and imports neither of them."""
