"""Training of each part of the pocket family."""
