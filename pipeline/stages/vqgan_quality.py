"""Quality of a discretizer, for its manifest. No artefact depends on these numbers."""

import torch
from torch import Tensor

from pipeline.core.images import scale_to_unit_range
from pipeline.models.vqgan import VQGAN, compute_psnr, measure_codebook_usage
from pipeline.progress import track_steps


@torch.no_grad()
def measure_quality(model: VQGAN, images: Tensor, device: str, batch_size: int) -> dict:
    """PSNR in dB (mean over uint8 images (N,C,H,W)), share of codes in use, the token grid."""
    quality, tokens = [], []
    count = -(-len(images) // batch_size)
    for part in track_steps("quality, batch", images.split(batch_size), count):
        x = scale_to_unit_range(part.to(device))
        grid = model.encode_to_tokens(x)
        quality.append(compute_psnr(x, model.decode_tokens(grid)))
        tokens.append(grid)
    every = torch.cat(tokens)
    return {
        "psnr_db": torch.cat(quality).mean().item(),
        "codes_used": measure_codebook_usage(every, model.architecture.n_codes),
        "n_codes": model.architecture.n_codes,
        "grid": list(every.shape[1:]),
        "images": len(images),
    }
