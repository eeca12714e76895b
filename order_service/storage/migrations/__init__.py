"""The schema and its changes, oldest first."""
