"""How consistent, how true to its prompts and how lively the pocket family's pictures are."""
