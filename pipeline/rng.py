"""Counter-based seeds: every draw is named by what it is for, so nothing depends on order."""

import hashlib

import torch

REVISION = 1


def seed_of(*names: int | str) -> int:
    """A 63-bit seed from a tuple of names, the same on every machine and run."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*names: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator seeded by ``seed_of(*names)``."""
    return torch.Generator(device).manual_seed(seed_of(*names))
