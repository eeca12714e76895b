"""Once per key: the record of a keyed request, its fingerprint, and who remembers the reply."""
