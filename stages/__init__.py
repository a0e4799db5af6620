"""What happens to one unit of work: prompts, keyframes, motion, films; no Ray, no Prefect."""
