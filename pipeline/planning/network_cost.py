"""FLOP and parameters of the networks that a configuration names, measured without memory."""

from pipeline.config.reader import Config
from pipeline.config.sections.discretizer import Discretizer
from pipeline.config.sections.teacher import Teacher
from pipeline.models.vqgan import Architecture
from pipeline.planning import flops
from pipeline.planning.compatibility.fits import shape_of
from pipeline.planning.compatibility.students import classes, data_of


def network_of(config: Config, name: str) -> tuple[float, int]:
    """FLOP of a forward on one image, and parameters, of a teacher or student."""
    shape, count = shape_of(config, data_of(config, name)), len(classes(config, name))
    if name in config.students:
        return flops.classifier(config.students[name].model, shape, count)
    section = config.teachers[name]
    if section.resize:
        shape = (shape[0], section.resize, section.resize)
    if section.model is not None:
        return flops.classifier(section.model, shape, count)
    return flops.measured(*tower(section, shape), shape)


def tower(section: Teacher, shape: tuple[int, int, int]) -> tuple:
    """The image tower of a CLIP, without memory, twice: the network and its forward."""
    from pipeline.models import clip
    from pipeline.planning import open_clip_registry

    if section.open_clip is not None:
        config = open_clip_registry.config_of(section.open_clip.model, text=False)
    else:
        size = {
            k: v for k, v in section.clip.model_dump().items() if k in clip.Size.__annotations__
        }
        config = clip.config_of(clip.Size(**size, image=shape[1]))
    with flops.META:
        network = clip.tower_of(config)
    return network, network


def quantiser(config: Config, name: str, side: int) -> tuple[float, float, int]:
    """FLOP of encoder and decoder at a side, and parameters, of a discretiser.

    One from a file without a description is taken for vq-f8.
    """
    return flops.vqgan(architecture(config.discretizers[name], config), side)


def architecture(section: Discretizer, config: Config) -> Architecture:
    """The architecture that a section stands for."""
    if section.checkpoint is None:
        channels, side, _ = shape_of(config, section.dataset)
        known = {
            k: v for k, v in section.model_dump().items() if k in Architecture.__dataclass_fields__
        }
        return Architecture(**known, resolution=side, in_channels=channels)
    if section.config is None:
        return Architecture()
    from pathlib import Path

    from pipeline.models.pretrained.vqgan_config import described

    return Architecture(**described(Path(section.config).expanduser()))
