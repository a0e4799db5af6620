"""Stories to render, a notebook, and a stage to add."""
