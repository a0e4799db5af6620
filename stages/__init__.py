"""The stages, each a class that renders one unit: prompts, keyframes, motion, films."""
