"""Measures the pocket family: consistency, prompt following and motion."""
