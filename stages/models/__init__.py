"""Pretrained models: which weights, how they are loaded, and Consistent Self-Attention in them."""
