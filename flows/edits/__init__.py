"""Edits of a job in place: what differs, what is made from it, what earlier generations keep."""
