"""Seeds from content: the same story and place give the same noise in every run."""

import hashlib


def derive_seed(*parts: str | int) -> int:
    """A seed in [0, 2**63) from what identifies the noise: story id, user's seed, role, index."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
