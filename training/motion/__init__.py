"""Training a motion predictor on videos for a video model that exists."""
