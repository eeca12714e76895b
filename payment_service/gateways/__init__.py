"""Whoever moves the money, and the tickets that say how much."""
