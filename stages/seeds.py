"""Seeds derived from content, so that the same story gets the same noise in every run."""

import hashlib


def derive_seed(*parts: str | int) -> int:
    """Return a seed in [0, 2**63) for parts that identify the noise: story id, role, index, ..."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
