"""A discretizer from a taming or latent-diffusion file: verified, converted, saved as ours."""

from pathlib import Path

import torch

from pipeline.config.specs import dump_spec, get_spec
from pipeline.data.dataset_artefact import open_dataset
from pipeline.errors import RetortError
from pipeline.models.classifier import MODEL_FILE
from pipeline.models.pretrained.checkpoint_files import StateDict, read_state_dict
from pipeline.models.pretrained.state_dict_match import (
    check_exact_match,
    drop_prefixed_tensors,
    strip_common_prefixes,
)
from pipeline.models.pretrained.vqgan_config import (
    GUMBEL_MESSAGE,
    GUMBEL_PREFIXES,
    infer_architecture,
)
from pipeline.models.vqgan import VQGAN, VQGANArchitecture, save
from pipeline.stages.vqgan_quality import measure_quality
from pipeline.store.artefact import Job, Manifest, write_atomically

REVISION = 1

MEASURED_IMAGES = 64  # number of test images on which it is measured
BATCH_SIZE = 4  # images at once
DROPPED_PREFIXES = (
    "loss.",
    "model_ema.",
)  # the losses' networks, and the shadow of a moving average
FIRST_STAGE_PREFIX = (
    "first_stage_model."  # prefix of the VQGAN in a complete latent-diffusion model
)
WRAPPER_PREFIXES = ("module.", "_orig_mod.", "vqgan.", "model.")


def load_checkpoint(job: Job) -> Manifest:
    """Read the file, whose path is in the job file and whose sum is in the key, and save it.

    Raises:
        RetortError: the file is not what the configuration says, or does not hold such a VQGAN.
    """
    path, spec = Path(job.run["checkpoint"]).expanduser(), get_spec(job)
    state, left = extract_vqgan_state(read_state_dict(path, spec.checkpoint.sha256))
    if any(name.startswith(GUMBEL_PREFIXES) for name in state):
        raise RetortError(f"{path}: {GUMBEL_MESSAGE}")
    stated = spec.architecture
    fields = infer_architecture(state, str(path)) if stated is None else dump_spec(stated)
    model = build_vqgan(VQGANArchitecture(**fields), state, str(path), stated is not None)
    facts = {"n_codes": model.architecture.n_codes, "architecture": fields}
    if "dataset" in job.inputs:
        data = open_dataset(job.inputs["dataset"])
        facts |= measure_quality(
            model, data.read_split("test").images[:MEASURED_IMAGES], "cpu", BATCH_SIZE
        )
    with write_atomically(job.folder / MODEL_FILE) as temporary:
        save(model, temporary)
    return job.build_manifest([MODEL_FILE], facts | {"left_out": len(left)})


def extract_vqgan_state(state: StateDict) -> tuple[StateDict, list[str]]:
    """A file's VQGAN under our names, and the names of its unused tensors.

    Our names are those of latent-diffusion without wrappers and losses. Of a complete diffusion
    model only the first stage is taken.
    """
    state = strip_common_prefixes(state, WRAPPER_PREFIXES)
    if any(name.startswith(FIRST_STAGE_PREFIX) for name in state):
        left = [name for name in state if not name.startswith(FIRST_STAGE_PREFIX)]
        inside = {
            n.removeprefix(FIRST_STAGE_PREFIX): v
            for n, v in state.items()
            if n.startswith(FIRST_STAGE_PREFIX)
        }
        kept, more = drop_prefixed_tensors(inside, DROPPED_PREFIXES)
        return kept, left + more
    return drop_prefixed_tensors(state, DROPPED_PREFIXES)


def build_vqgan(
    architecture: VQGANArchitecture, state: StateDict, where: str, is_architecture_given: bool
) -> VQGAN:
    """The network with a file's weights; it allocates no memory beside them.

    Raises:
        RetortError: names the first tensor that is missing, superfluous or of another shape.
    """
    with torch.device("meta"):
        model = VQGAN(architecture)
    own = "is 'config' the one that this file was trained with?"
    remedy = own if is_architecture_given else "give the YAML that it was trained with as 'config'"
    weights = check_exact_match(model.state_dict(), state, where, remedy)
    model.load_state_dict({n: v.float() for n, v in weights.items()}, assign=True)
    return model.eval()
