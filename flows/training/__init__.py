"""The flow that trains a motion predictor."""
