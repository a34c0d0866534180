"""Additional losses of a VQGAN's job: LPIPS from files, a discriminator from the seed."""

from pathlib import Path

import torch

from pipeline.config.specs import get_spec
from pipeline.core.lpips import LPIPS
from pipeline.models.pretrained.checkpoint_files import StateDict, read_state_dict
from pipeline.models.pretrained.state_dict_match import check_exact_match, drop_prefixed_tensors
from pipeline.models.vqgan import ReconstructionObjective
from pipeline.store.artefact import Job
from pipeline.training.vqgan_losses import (
    AdversarialLoss,
    PerceptualLoss,
    VQGANObjective,
    make_discriminator,
)

REVISION = 1

CLASSIFIER_PREFIXES = ("classifier.",)  # VGG-16's last layers, which LPIPS does not use


def make_vqgan_objective(
    job: Job, reconstruction: ReconstructionObjective, channels: int
) -> VQGANObjective:
    """The objective of a job with `perceptual`, `adversarial` or both.

    Raises:
        RetortError: a file is not the one in the configuration, or holds other weights.
    """
    spec, adversarial_loss, discriminator = get_spec(job), None, None
    if (settings := spec.adversarial) is not None:
        adversarial_loss = AdversarialLoss(settings.weight, settings.start, settings.rule)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.seed)
            discriminator = make_discriminator(channels, settings.width, settings.layers)
    perceptual_loss = None
    if spec.perceptual is not None:
        perceptual_loss = PerceptualLoss(load_lpips(job), spec.perceptual.weight)
    return VQGANObjective(reconstruction, perceptual_loss, adversarial_loss, discriminator)


def load_lpips(job: Job) -> LPIPS:
    """LPIPS with the weights of its two files."""
    network = LPIPS()
    vgg, _ = drop_prefixed_tensors(read_weights(job, "vgg"), CLASSIFIER_PREFIXES)
    lins = {map_lin_name(name): value for name, value in read_weights(job, "lin").items()}
    weights = {name: value for name, value in network.state_dict().items() if "." not in name}
    for file, prefix, state, description in (
        ("vgg", "features.", vgg, "torchvision's VGG-16"),
        ("lin", "lins.", lins, "the linear layers of LPIPS on VGG-16"),
    ):
        own = {n: v for n, v in network.state_dict().items() if n.startswith(prefix)}
        remedy = f"give {description} as perceptual.{file}"
        weights |= check_exact_match(own, state, str(get_weights_path(job, file)), remedy)
    network.load_state_dict(weights)
    return network


def map_lin_name(name: str) -> str:
    """Our name of a weight in LPIPS's file, such as `lin3.model.1.weight`."""
    depth, _, rest = name.removeprefix("lin").partition(".")
    return f"lins.{depth}.weight" if rest.endswith(".weight") else name


def get_weights_path(job: Job, part: str) -> Path:
    """The path of a file of weights, as the job file gives it."""
    return Path(job.run[f"perceptual.{part}"]).expanduser()


def read_weights(job: Job, part: str) -> StateDict:
    """The tensors of one of the two files."""
    about = get_spec(job).perceptual
    return read_state_dict(
        get_weights_path(job, part), {"vgg": about.vgg, "lin": about.lin}[part].sha256
    )
