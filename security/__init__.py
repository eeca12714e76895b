"""What looks for holes: rules for semgrep, and what is known of what is installed."""
