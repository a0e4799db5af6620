"""Other processes, as tests see them."""

from pathlib import Path


def is_alive(pid: int) -> bool:
    """Whether a process runs, or could again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
