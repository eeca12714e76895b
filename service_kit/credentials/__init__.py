"""Who calls, proven: by a certificate on an allow-list, or by a signed token."""
