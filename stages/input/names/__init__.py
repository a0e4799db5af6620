"""Names of characters in texts: in brackets, and as the grammar of a language shows them."""
