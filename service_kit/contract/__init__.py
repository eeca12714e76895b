"""What the RPCs promise beyond their types: read, compared, released and documented."""
