"""Both services on one machine: the demo, the pair that `make serve` keeps, the README."""
