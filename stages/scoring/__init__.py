"""Scoring: how consistent, how true to its text and how lively what was rendered is."""
