"""Payments on SQLite and PostgreSQL."""
