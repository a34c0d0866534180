"""Stage: a discretiser, trained on a data set (DAD, Sec. 3.1; Esser et al., CVPR 2021)."""

import torch

from pipeline.artifact import Job, Manifest, replacing
from pipeline.batch import Roles
from pipeline.data import Data, open_data
from pipeline.discretizer import VQGAN, Architecture, Reconstruction, codes_used, psnr, save
from pipeline.loop import fit, write_history
from pipeline.source import pixels
from pipeline.training import HISTORY, MODEL, dataset_source, place_of, recipe_of

REVISION = 1

BATCH = 250  # images at once when the finished discretiser is measured


def run(job: Job) -> Manifest:
    """Train, measure and save the discretiser that the spec describes."""
    spec, recipe = job.spec, recipe_of(job)
    data = open_data(job.inputs["dataset"])
    fields = {k: v for k, v in spec.items() if k in Architecture.__dataclass_fields__}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec["seed"])
        model = VQGAN(Architecture(**fields, resolution=data.shape[1], in_channels=data.shape[0]))
    roles = Roles(model.to(spec["device"]))
    objective = Reconstruction(spec["n_codes"]).to(spec["device"])
    history = fit(
        roles, objective, dataset_source(job, data, recipe), recipe, place_of(job)
    ).history
    with replacing(job.folder / MODEL) as temporary:
        save(model, temporary)
    write_history(job.folder / HISTORY, history)
    return job.manifest([MODEL, HISTORY], measure(model, data, spec["device"]))


@torch.no_grad()
def measure(model: VQGAN, data: Data, device: str) -> dict:
    """PSNR in dB (mean over test images), share of codes in use, the token grid."""
    images = data.split("test").images
    quality, tokens = [], []
    for part in images.split(BATCH):
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
