"""Folders and tables of videos: what is in them, and clips of them as frozen models see them."""
