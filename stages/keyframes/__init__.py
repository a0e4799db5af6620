"""Stage 2: the keyframes of a story, rendered together with Consistent Self-Attention."""
