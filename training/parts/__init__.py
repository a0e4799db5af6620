"""How each part of the pocket family is trained."""
