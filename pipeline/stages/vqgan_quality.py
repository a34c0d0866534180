"""How good a discretiser is: what a manifest says of it. Nothing is made from these numbers."""

import torch
from torch import Tensor

from pipeline.core.images import pixels
from pipeline.models.vqgan import VQGAN, codes_used, psnr


@torch.no_grad()
def measured(model: VQGAN, images: Tensor, device: str, batch: int) -> dict:
    """PSNR in dB (mean over uint8 images (N,C,H,W)), share of codes in use, the token grid."""
    quality, tokens = [], []
    for part in images.split(batch):
        x = pixels(part.to(device))
        grid = model.tokens(x)
        quality.append(psnr(x, model.decode_tokens(grid)))
        tokens.append(grid)
    every = torch.cat(tokens)
    return {
        "psnr_db": torch.cat(quality).mean().item(),
        "codes_used": codes_used(every, model.architecture.n_codes),
        "n_codes": model.architecture.n_codes,
        "grid": list(every.shape[1:]),
        "images": len(images),
    }
