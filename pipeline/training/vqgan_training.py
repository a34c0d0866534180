"""A VQGAN's further losses from its work order: files read, weights drawn from the seed."""

from pathlib import Path

import torch

from pipeline.config.specs import spec_of
from pipeline.core.lpips import Lpips
from pipeline.models.pretrained.checkpoint_files import State, read
from pipeline.models.pretrained.state_dict_match import exactly, without
from pipeline.models.vqgan import Reconstruction
from pipeline.store.artifact import Job
from pipeline.training.vqgan_losses import Adversary, Perceptual, Refined, discriminator_of

REVISION = 1

CLASSIFIER = ("classifier.",)  # VGG-16's last layers, which LPIPS does without


def refined(job: Job, base: Reconstruction, channels: int) -> Refined:
    """The objective of a work order that names `perceptual`, `adversarial` or both.

    Raises:
        RetortError: a file is not what the configuration says, or holds other weights.
    """
    spec, adversary, discriminator = spec_of(job), None, None
    if (about := spec.adversarial) is not None:
        adversary = Adversary(about.weight, about.start, about.rule)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.seed)
            discriminator = discriminator_of(channels, about.width, about.layers)
    perceptual = None
    if spec.perceptual is not None:
        perceptual = Perceptual(lpips_of(job), spec.perceptual.weight)
    return Refined(base, perceptual, adversary, discriminator)


def lpips_of(job: Job) -> Lpips:
    """LPIPS with the weights of the two files."""
    network = Lpips()
    vgg, _ = without(content(job, "vgg"), CLASSIFIER)
    lins = {lin(name): value for name, value in content(job, "lin").items()}
    weights = {name: value for name, value in network.state_dict().items() if "." not in name}
    for file, part, state, what in (
        ("vgg", "features.", vgg, "torchvision's VGG-16"),
        ("lin", "lins.", lins, "the linear layers of LPIPS on VGG-16"),
    ):
        own = {n: v for n, v in network.state_dict().items() if n.startswith(part)}
        remedy = f"give {what} as perceptual.{file}"
        weights |= exactly(own, state, str(place_of(job, file)), remedy)
    network.load_state_dict(weights)
    return network


def lin(name: str) -> str:
    """`lin3.model.1.weight`, as LPIPS's file has it, in our words."""
    depth, _, rest = name.removeprefix("lin").partition(".")
    return f"lins.{depth}.weight" if rest.endswith(".weight") else name


def place_of(job: Job, part: str) -> Path:
    """Where a file lies, which is in the work order."""
    return Path(job.run[f"perceptual.{part}"]).expanduser()


def content(job: Job, part: str) -> State:
    """The tensors of one of the two files."""
    about = spec_of(job).perceptual
    return read(place_of(job, part), {"vgg": about.vgg, "lin": about.lin}[part].sha256)
