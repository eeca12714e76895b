"""What Prometheus can read: counted while serving, asked of the database when it is read."""
