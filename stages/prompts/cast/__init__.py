"""Who acts: the characters that a story introduces, and those that each of its panels means."""
