"""Checks an output against its records, and reopens what is damaged or was given up."""
