"""StoryDiffusion as a distributed batch-rendering pipeline."""

__version__ = "0.2.0.dev0"
