"""The input of a job: story files, their rows, the markup of panels, reference images."""
