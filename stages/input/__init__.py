"""The input of a job: story files, rows, panel markup and reference images."""
