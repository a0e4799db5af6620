"""The measures of scoring, each on plain arrays or tensors."""
