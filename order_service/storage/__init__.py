"""Orders on SQLite and PostgreSQL."""
