"""Stage 4: a story's clips become its film, subtitles and contact sheet."""
