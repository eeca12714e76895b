"""Histories that show every change made to them afterwards."""
