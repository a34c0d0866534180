"""The discretizer Q: a VQGAN over taming-transformers' encoder, decoder and codebook."""

import contextlib
import io
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from taming.modules.diffusionmodules.model import Decoder, Encoder
from taming.modules.vqvae.quantize import VectorQuantizer
from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.collectives import all_gather
from pipeline.errors import RetortError
from pipeline.models.classifier import read_metadata

REVISION = 1

DISTANCES_PER_BLOCK = 2**24  # tokens x codes held at once: 64 MiB in float32
NORM_GROUPS = 32  # taming's GroupNorm


@dataclass(frozen=True)
class VQGANArchitecture:
    """Shape of a VQGAN; the defaults are latent-diffusion's ``vq-f8`` (K=16384, d=4).

    Attributes:
        ch: width of the first level, a multiple of 32 (taming's GroupNorm).
        ch_mult: width of each level over ch; every level but the last halves the grid.
        num_res_blocks: residual blocks a level (one more in the decoder).
        attn_resolutions: grid sides whose levels get attention.
        mid_attention: attention between the two middle blocks, at the tokens' own grid. False is
            latent-diffusion's ``attn_type: none``: 2.5 times faster at 16x16 tokens on a CPU.
        z_channels: channels of the encoder's output.
        embed_dim: d, length of a code.
        n_codes: K, size of the codebook.
        resolution: side of the images it is built for, in pixels.
        unshuffle: side of the pixel blocks folded into channels before the encoder.
        in_channels: channels of the images.
    """

    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 2, 4)
    num_res_blocks: int = 2
    attn_resolutions: tuple[int, ...] = (32,)
    z_channels: int = 4
    embed_dim: int = 4
    n_codes: int = 16384
    resolution: int = 256
    unshuffle: int = 1
    in_channels: int = 3
    mid_attention: bool = True

    def __post_init__(self):
        object.__setattr__(self, "ch_mult", tuple(self.ch_mult))
        object.__setattr__(self, "attn_resolutions", tuple(self.attn_resolutions))
        if self.ch % NORM_GROUPS:
            raise RetortError(f"discretizer: ch is {self.ch}; make it a multiple of {NORM_GROUPS}")
        if self.resolution % self.downsampling_factor:
            raise RetortError(
                f"discretizer: resolution {self.resolution} is no multiple of "
                f"{self.downsampling_factor}, the "
                "side of a token; change resolution, ch_mult or unshuffle"
            )

    @property
    def downsampling_factor(self) -> int:
        """Side of the pixel block that one token stands for."""
        return self.unshuffle * 2 ** (len(self.ch_mult) - 1)


class VQGAN(nn.Module):
    """Images (B,C,H,W) in [0,1] to tokens and back (Esser et al., CVPR 2021).

    With ``unshuffle=1`` the keys of its weights are those of latent-diffusion's ``vq-f8``.
    """

    def __init__(self, architecture: VQGANArchitecture):
        super().__init__()
        a = self.architecture = architecture
        folded = a.in_channels * a.unshuffle**2
        shape = {
            "ch": a.ch,
            "out_ch": folded,
            "ch_mult": a.ch_mult,
            "num_res_blocks": a.num_res_blocks,
            "attn_resolutions": a.attn_resolutions,
            "in_channels": folded,
            "resolution": a.resolution // a.unshuffle,
            "z_channels": a.z_channels,
        }
        with contextlib.redirect_stdout(io.StringIO()):  # taming's decoder prints its shape
            self.encoder = Encoder(double_z=False, **shape)
            self.decoder = Decoder(**shape)
        if not a.mid_attention:
            self.encoder.mid.attn_1 = nn.Identity()
            self.decoder.mid.attn_1 = nn.Identity()
        self.quantize = VectorQuantizer(a.n_codes, a.embed_dim, beta=0.25)
        self.quant_conv = nn.Conv2d(a.z_channels, a.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(a.embed_dim, a.z_channels, 1)

    @property
    def codebook(self) -> nn.Parameter:
        """The codes (K,d)."""
        return self.quantize.embedding.weight

    def encode(self, x: Tensor) -> Tensor:
        """Latents (B,d,h,w) before quantisation, of images in [0,1].

        Raises:
            RetortError: a side is no multiple of a token's side.
        """
        height, width, side = *x.shape[-2:], self.architecture.downsampling_factor
        if height % side or width % side:
            what = f"images of {height}x{width} px: a token stands for {side}x{side}"
            raise RetortError(f"{what}; give sides that are multiples")
        folded = F.pixel_unshuffle(2 * x - 1, self.architecture.unshuffle)
        return self.quant_conv(self.encoder(folded))

    def find_nearest_tokens(self, z: Tensor) -> Tensor:
        """Index (B,h,w) int64 of the code nearest to each latent of z (B,d,h,w)."""
        b, d, h, w = z.shape
        flat = z.detach().float().permute(0, 2, 3, 1).reshape(-1, d)
        return find_nearest_codes(flat, self.codebook.detach().float()).view(b, h, w)

    def encode_to_tokens(self, x: Tensor) -> Tensor:
        """Tokens (B,h,w) int64 of images in [0,1]."""
        return self.find_nearest_tokens(self.encode(x))

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Codes (B,d,h,w) of tokens (B,h,w); gradients flow into the codebook."""
        return F.embedding(tokens, self.codebook).permute(0, 3, 1, 2).contiguous()

    def decode(self, z: Tensor) -> Tensor:
        """Images (B,C,H,W) in [0,1] of latents (B,d,h,w).

        The clamp passes gradients straight through: saturated pixels must not hide an attack's
        gradient, nor keep training from pulling them back.
        """
        x = F.pixel_shuffle(self.decoder(self.post_quant_conv(z)), self.architecture.unshuffle)
        x = (x + 1) / 2
        return apply_straight_through(x, x.clamp(0, 1))

    def decode_tokens(self, tokens: Tensor) -> Tensor:
        """Images (B,C,H,W) in [0,1] of tokens (B,h,w)."""
        return self.decode(self.embed_tokens(tokens))

    def reconstruct(self, x: Tensor) -> Tensor:
        """Q(x): images in [0,1] rebuilt from their tokens. No gradient reaches x."""
        return self.decode_tokens(self.encode_to_tokens(x))

    def forward(self, x: Tensor) -> Tensor:
        """Q(x) with the straight-through gradient z_q = z + sg(z_q - z) to x and the encoder."""
        z = self.encode(x)
        return self.decode(
            apply_straight_through(z, self.embed_tokens(self.find_nearest_tokens(z)))
        )


def apply_straight_through(soft: Tensor, hard: Tensor) -> Tensor:
    """The exact value of ``hard`` with the gradient of ``soft``: sg(hard) + soft - sg(soft)."""
    return hard.detach() + (soft - soft.detach())


def find_nearest_codes(z: Tensor, codebook: Tensor) -> Tensor:
    """Index (N,) int64 of the code nearest in L2 to each row of z (N,d); codebook (K,d).

    The distance is written as in taming's VectorQuantizer, so that ties break alike. It is built
    block by block: at 256 px and K=16384 the full matrix would take gigabytes.
    """
    squares = (codebook**2).sum(1)
    rows = max(1, DISTANCES_PER_BLOCK // len(codebook))
    blocks = []
    for part in z.split(rows):
        distance = (part**2).sum(1, keepdim=True) + squares - 2 * part @ codebook.t()
        blocks.append(distance.argmin(1))
    return torch.cat(blocks)


def compute_psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB per sample (B,) of images in [0,1]; 100 dB at most."""
    mse = ((x - y) ** 2).flatten(1).mean(1)
    return -10 * torch.log10(mse.clamp(min=1e-10))


def measure_codebook_usage(tokens: Tensor, n_codes: int) -> float:
    """Fraction of the codebook that occurs among the tokens."""
    return tokens.unique().numel() / n_codes


class ReconstructionObjective(nn.Module):
    """Trains a VQGAN without its discriminator: L1 in pixels and the codebook loss.

    The first ``warmup`` of training does not quantise. Then the codebook is drawn from encoder
    outputs: taming's own initialisation collapses onto few codes. Until ``revive_until``, codes
    that were unused for ``revive_every`` steps are drawn again from the current batch.

    Loss per sample: mean |x - Q(x)|, and with d, h, w averaged (van den Oord et al., NeurIPS 2017,
    eq. 3) codebook_weight * ((sg(z) - e)^2 + beta (z - sg(e))^2).

    Attributes:
        n_codes: K of the student.
        warmup: share of training without quantisation.
        beta: weight of the commitment term.
        codebook_weight: weight of the codebook loss.
        revive_every: steps between two searches for dead codes.
        revive_until: share of training after which the codebook is left alone.
    """

    def __init__(
        self,
        n_codes: int,
        warmup: float = 0.1,
        beta: float = 0.25,
        codebook_weight: float = 1.0,
        revive_every: int = 50,
        revive_until: float = 0.8,
    ):
        super().__init__()
        self.warmup, self.beta, self.codebook_weight = warmup, beta, codebook_weight
        self.revive_every, self.revive_until = revive_every, revive_until
        self.register_buffer("usage", torch.zeros(n_codes))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def needs(self) -> tuple[str, ...]:
        """Nothing beyond the student and the images."""
        return ()

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        """Yields ``reconstruction`` and ``codebook``, each (B,)."""
        yield self.reconstruct_batch(roles.student, batch)[1]

    def reconstruct_batch(self, model: VQGAN, batch: Batch) -> tuple[Tensor, Terms]:
        """The batch's images rebuilt (B,C,H,W), and the loss terms."""
        x, z = batch.x, model.encode(batch.x)
        if batch.progress < self.warmup:
            image = model.decode(z)
            loss = (image - x).abs().flatten(1).mean(1)
            return image, {"reconstruction": loss, "codebook": torch.zeros_like(loss)}
        self._refill_codebook(model, all_gather(z.detach()), batch)
        tokens = model.find_nearest_tokens(z)
        found = all_gather(tokens).flatten()
        self.usage.index_add_(0, found, torch.ones_like(found, dtype=self.usage.dtype))
        codes = model.embed_tokens(tokens)
        image = model.decode(apply_straight_through(z, codes))
        codebook = (z.detach() - codes) ** 2 + self.beta * (z - codes.detach()) ** 2
        return image, {
            "reconstruction": (image - x).abs().flatten(1).mean(1),
            "codebook": self.codebook_weight * codebook.flatten(1).mean(1),
        }

    def _refill_codebook(self, model: VQGAN, z: Tensor, batch: Batch) -> None:
        """Fills the codebook on the first quantised step; later redraws the codes that died."""
        first = int(self.steps) == 0
        due = int(self.steps) % self.revive_every == 0 and batch.progress < self.revive_until
        if first or due:
            dead = self.usage == 0
            drawn = draw_latents(z, int(dead.sum()), batch.rng)
            with torch.no_grad():
                model.codebook[dead] = drawn.to(model.codebook)
            self.usage.zero_()
        self.steps += 1


def draw_latents(z: Tensor, n: int, rng: torch.Generator) -> Tensor:
    """n latents (n,d) drawn from z (B,d,h,w): without repeats as long as there are enough."""
    flat = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
    copies = math.ceil(n / len(flat))
    order = [torch.randperm(len(flat), generator=rng, device=rng.device) for _ in range(copies)]
    rows = torch.cat(order)[:n] if order else torch.empty(0, dtype=torch.int64)
    return flat[rows.to(flat.device)]


def save(model: VQGAN, path: Path) -> None:
    """Writes weights and architecture to one safetensors file."""
    metadata = {"kind": "discretizer", "architecture": asdict(model.architecture)}
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, path, metadata={"retort": json.dumps(metadata)})


def load(path: Path) -> VQGAN:
    """A saved VQGAN, in eval mode, on the CPU.

    Raises:
        RetortError: the file is not a discretizer of this pipeline.
    """
    metadata = read_metadata(path)
    if metadata["kind"] != "discretizer":
        raise RetortError(
            f"{path}: holds a {metadata['kind']}, not a discretizer; give another file"
        )
    model = VQGAN(VQGANArchitecture(**metadata["architecture"]))
    model.load_state_dict(load_file(path))
    return model.eval()
