"""FLOP and parameters of the networks that a configuration names; no memory is allocated."""

from pipeline.config.reader import Config
from pipeline.config.sections.discretizer import DiscretizerSettings
from pipeline.config.sections.teacher import TeacherSettings
from pipeline.models.vqgan import VQGANArchitecture
from pipeline.planning import flops
from pipeline.planning.compatibility.fits import get_image_shape, list_dataset_classes
from pipeline.planning.compatibility.students import find_class_source


def measure_model(config: Config, name: str) -> tuple[float, int]:
    """FLOP of a forward pass on one image, and parameters, of the teacher of a name.

    Where there is none, they are those of the student of this name.
    """
    measure = measure_teacher if name in config.teachers else measure_student
    return measure(config, name)


def measure_student(config: Config, name: str) -> tuple[float, int]:
    """FLOP of a forward pass of a student on one image, and its parameters."""
    section = config.students[name]
    learnt = find_class_source(config, section)
    shape, count = get_image_shape(config, learnt), len(list_dataset_classes(config, learnt))
    return flops.measure_classifier(section.model, shape, count)


def measure_teacher(config: Config, name: str) -> tuple[float, int]:
    """FLOP of a forward pass of a teacher on one image, and its parameters."""
    section = config.teachers[name]
    shape = get_image_shape(config, section.dataset)
    count = len(list_dataset_classes(config, section.dataset))
    if section.resize:
        shape = (shape[0], section.resize, section.resize)
    if section.model is not None:
        return flops.measure_classifier(section.model, shape, count)
    return flops.measure_network(*build_image_tower(section, shape), shape)


def build_image_tower(section: TeacherSettings, shape: tuple[int, int, int]) -> tuple:
    """The image tower of a CLIP on the meta device, twice: as the network and as its forward."""
    from pipeline.models import clip
    from pipeline.planning import open_clip_registry

    if section.open_clip is not None:
        config = open_clip_registry.read_model_config(section.open_clip.model, uses_text=False)
    else:
        size = {
            k: v for k, v in section.clip.model_dump().items() if k in clip.ClipSize.__annotations__
        }
        config = clip.make_open_clip_config(clip.ClipSize(**size, image=shape[1]))
    with flops.META_DEVICE:
        network = clip.build_tower(config)
    return network, network


def measure_discretizer(config: Config, name: str, side: int) -> tuple[float, float, int]:
    """FLOP of encoder, FLOP of decoder, and parameters of a discretizer; ``side`` is in pixels.

    A discretizer from a file without a ``config`` is counted as vq-f8.
    """
    return flops.measure_vqgan(resolve_architecture(config.discretizers[name], config), side)


def resolve_architecture(section: DiscretizerSettings, config: Config) -> VQGANArchitecture:
    """The architecture of the VQGAN that a section describes; vq-f8 if it describes none."""
    if section.checkpoint is None:
        channels, side, _ = get_image_shape(config, section.dataset)
        known = {
            k: v
            for k, v in section.model_dump().items()
            if k in VQGANArchitecture.__dataclass_fields__
        }
        return VQGANArchitecture(**known, resolution=side, in_channels=channels)
    if section.config is None:
        return VQGANArchitecture()
    from pathlib import Path

    from pipeline.models.pretrained.vqgan_config import read_architecture

    return VQGANArchitecture(**read_architecture(Path(section.config).expanduser()))
