"""Seeds and draws by name or counter, so that no number depends on the order of draws.

A draw by counter is SplitMix64's output function (Steele, Lea and Flood, OOPSLA 2014) of a mixed
key. It uses numpy's unsigned integers, which wrap around: the same numbers on every machine.
"""

import hashlib

import numpy as np
import torch

from pipeline.core.devices import placement

REVISION = 1

GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
FIRST_MULTIPLIER, SECOND_MULTIPLIER = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def derive_seed(*names: int | str) -> int:
    """A 63-bit seed from a tuple of names, the same on every machine and run."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def make_generator(*names: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator seeded by ``derive_seed(*names)``."""
    return torch.Generator(device).manual_seed(derive_seed(*names))


def draw_host_seed(rng: torch.Generator, name: str, bound: int = 2**31) -> int:
    """A seed below ``bound`` for a library that draws on the host.

    A generator of a CPU draws it. That of an accelerator is not read, since the host would wait:
    there it comes from ``name`` and the generator's own seed.
    """
    if placement.is_accelerator(rng.device):
        return derive_seed(name, rng.initial_seed()) % bound
    return int(torch.randint(bound, (), generator=rng))


def scramble_words(z: np.ndarray) -> np.ndarray:
    """The 64-bit words, of any shape, under SplitMix64's bijection."""
    z = (z ^ (z >> np.uint64(30))) * FIRST_MULTIPLIER
    z = (z ^ (z >> np.uint64(27))) * SECOND_MULTIPLIER
    return z ^ (z >> np.uint64(31))


def scramble_row_keys(seed: int, rows: np.ndarray, view: int) -> np.ndarray:
    """The word (B,) from which each row's draws of a view start."""
    key = np.full(len(rows), seed, np.uint64)
    for part in (rows.astype(np.uint64), np.full(len(rows), view, np.uint64)):
        key = scramble_words(key + GOLDEN_GAMMA) ^ part
    return scramble_words(key + GOLDEN_GAMMA)


def draw_uniforms(seed: int, rows: np.ndarray, view: int, count: int) -> np.ndarray:
    """Uniform draws 0 to ``count`` - 1 for each row of a view: (B,count) float64 in [0,1).

    Args:
        seed: a non-negative integer below 2^63, as ``derive_seed`` returns.
        rows: (B,) non-negative integers.
    """
    steps = np.arange(1, count + 1, dtype=np.uint64) * GOLDEN_GAMMA
    words = scramble_words(scramble_row_keys(seed, rows, view)[:, None] + steps)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw_device_uniforms(
    seed: int, rows: np.ndarray, view: int, count: int, device: torch.device | str
) -> torch.Tensor:
    """The numbers of ``draw_uniforms``, to the last bit, as a tensor that the device makes.

    Torch's signed integers wrap around as numpy's unsigned ones do.
    """
    keys = torch.from_numpy(scramble_row_keys(seed, rows, view).view(np.int64))
    steps = torch.arange(1, count + 1, device=device) * to_signed(GOLDEN_GAMMA)
    z = placement.copy_to_device(keys, device)[:, None] + steps
    for shift, multiplier in ((30, FIRST_MULTIPLIER), (27, SECOND_MULTIPLIER)):
        z = (z ^ shift_right(z, shift)) * to_signed(multiplier)
    return shift_right(z ^ shift_right(z, 31), 11).double() * 2.0**-53


def to_signed(word: np.uint64) -> int:
    """The signed integer of the same 64 bits."""
    return int(word.astype(np.int64))


def shift_right(z: torch.Tensor, count: int) -> torch.Tensor:
    """The int64 words shifted to the right, with zeros from the left."""
    return (z >> count) & ((1 << (64 - count)) - 1)
