"""An independent witness of the guarantees: it shares no query and no table with what it checks."""
