"""The renderers of the frames between two keyframes, one module each."""
