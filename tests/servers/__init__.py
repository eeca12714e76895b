"""Real PostgreSQL and Valkey: started from their wheels, or named in the environment."""
