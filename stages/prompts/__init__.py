"""Stage 1, prompts: stories become panels to render and shots between them."""
