"""One reader for each kind of story file; `formats` chooses among them."""
