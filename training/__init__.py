"""Training: the procedural world and the loops that learn from it."""
