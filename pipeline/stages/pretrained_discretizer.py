"""A discretiser from a taming or latent-diffusion checkpoint: verified, fitted, saved as ours."""

from pathlib import Path

import torch

from pipeline.config.specs import dump_spec, spec_of
from pipeline.data.dataset_artifact import open_data
from pipeline.errors import RetortError
from pipeline.models.classifier import MODEL
from pipeline.models.pretrained.checkpoint_files import State, read
from pipeline.models.pretrained.state_dict_match import exactly, unprefixed, without
from pipeline.models.pretrained.vqgan_config import GUMBEL, GUMBEL_NAMES, recognised
from pipeline.models.vqgan import VQGAN, Architecture, save
from pipeline.stages.vqgan_quality import measured
from pipeline.store.artifact import Job, Manifest, replacing

REVISION = 1

MEASURED = 64  # test images that it is measured on
BATCH = 4  # of them at once
LEFT = ("loss.", "model_ema.")  # the losses' networks, and the shadow of a moving average
STAGE = "first_stage_model."  # where a whole latent-diffusion model keeps its VQGAN
WRAPPERS = ("module.", "_orig_mod.", "vqgan.", "model.")


def load_checkpoint(job: Job) -> Manifest:
    """Read the file, whose place is in the work order and whose sum is in the key, and save it.

    Raises:
        RetortError: the file is not what the configuration says, or holds no such VQGAN.
    """
    path, spec = Path(job.run["checkpoint"]).expanduser(), spec_of(job)
    state, left = mapped(read(path, spec.checkpoint.sha256))
    if any(name.startswith(GUMBEL_NAMES) for name in state):
        raise RetortError(f"{path}: {GUMBEL}")
    stated = spec.architecture
    fields = recognised(state, str(path)) if stated is None else dump_spec(stated)
    model = filled(Architecture(**fields), state, str(path), stated is not None)
    facts = {"n_codes": model.architecture.n_codes, "architecture": fields}
    if "dataset" in job.inputs:
        data = open_data(job.inputs["dataset"])
        facts |= measured(model, data.split("test").images[:MEASURED], "cpu", BATCH)
    with replacing(job.folder / MODEL) as temporary:
        save(model, temporary)
    return job.manifest([MODEL], facts | {"left_out": len(left)})


def mapped(state: State) -> tuple[State, list[str]]:
    """A file's VQGAN under our names, and the names that it has no use for.

    They are latent-diffusion's own once wrappers and losses are dropped; out of a whole diffusion
    model the first stage is taken.
    """
    state = unprefixed(state, WRAPPERS)
    if any(name.startswith(STAGE) for name in state):
        left = [name for name in state if not name.startswith(STAGE)]
        inside = {n.removeprefix(STAGE): v for n, v in state.items() if n.startswith(STAGE)}
        kept, more = without(inside, LEFT)
        return kept, left + more
    return without(state, LEFT)


def filled(architecture: Architecture, state: State, where: str, stated: bool) -> VQGAN:
    """The network with a file's weights. It is built without memory of its own.

    Raises:
        RetortError: the first tensor that is missing, of another shape, or too many.
    """
    with torch.device("meta"):
        model = VQGAN(architecture)
    own = "is 'config' the one that this file was trained with?"
    remedy = own if stated else "give the YAML that it was trained with as 'config'"
    weights = exactly(model.state_dict(), state, where, remedy)
    model.load_state_dict({n: v.float() for n, v in weights.items()}, assign=True)
    return model.eval()
