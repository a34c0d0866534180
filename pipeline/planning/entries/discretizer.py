"""Discretizers: trained on a data set that has test images, or loaded from a file."""

from pathlib import Path

from pipeline.config.reader import Config
from pipeline.config.sections.discretizer import DiscretizerSettings
from pipeline.config.specs import read_spec
from pipeline.errors import RetortError, prefix_errors
from pipeline.planning.compatibility.fits import (
    check_batch,
    check_training_images,
    check_whole_batch,
    get_image_shape,
)
from pipeline.planning.compatibility.token_grids import check_grid
from pipeline.planning.components import (
    DATA,
    IN_DATASET_KEY,
    IN_MODEL_KEY,
    NO_TRAINED_ROLE,
    SEVERAL_GPUS,
    TRAINING,
    list_data_parallel_components,
)
from pipeline.planning.plan import PlannedArtefact
from pipeline.planning.resolver import Resolver
from pipeline.schema import dump_section

COMPONENTS = (*TRAINING, "pipeline.models.vqgan", "pipeline.stages.train_discretizer")
OPTIONAL = {
    "losses": (
        "pipeline.core.lpips",
        "pipeline.models.pretrained.checkpoint_files",
        "pipeline.models.pretrained.safe_unpickle",
        "pipeline.models.pretrained.state_dict_match",
        "pipeline.training.vqgan_losses",
        "pipeline.training.vqgan_training",
    ),
    "gpus": SEVERAL_GPUS,
}
CHECKPOINT = (  # components of a discretizer from a file
    *DATA,
    "pipeline.models.pretrained.checkpoint_files",
    "pipeline.models.pretrained.safe_unpickle",
    "pipeline.models.pretrained.state_dict_match",
    "pipeline.models.pretrained.vqgan_config",
    "pipeline.models.vqgan",
    "pipeline.stages.pretrained_discretizer",
)
EXEMPT = IN_DATASET_KEY | IN_MODEL_KEY | NO_TRAINED_ROLE
LEAST_VGG_SIDE = 16  # side in pixels below which VGG-16 pools images away


def plan_artefact(resolver: Resolver, name: str) -> PlannedArtefact:
    """A VQGAN, trained or loaded from a file."""
    section, where = resolver.config.discretizers[name], f"discretizers.{name}"
    inputs = {}
    if section.dataset is not None:
        inputs["dataset"] = resolver.resolve_name("datasets", section.dataset, f"{where}.dataset")
        check_test_images(resolver.config, where, section.dataset)
    if section.checkpoint is not None:
        return plan_pretrained_discretizer(resolver, name, inputs)
    spec = {**dump_section(section, without=("dataset",)), **resolver.make_common_spec()}
    outside = {}
    if section.perceptual is not None:
        for part in ("vgg", "lin"):
            outside[f"perceptual.{part}"] = spec["perceptual"][part].pop("path")
    check_grid(resolver.config, where, read_spec("discretizer", spec), section.dataset)
    check_training_images(resolver.config, f"{where}.dataset", section.dataset)
    check_batch(resolver.config, f"{where}.recipe", section.recipe, section.dataset)
    check_losses(resolver.config, where, section)
    rule = "the rule 'adaptive' of 'adversarial'"
    check_whole_batch(where, section.recipe, section.adversarial, rule)
    losses = OPTIONAL["losses"] if section.perceptual or section.adversarial else ()
    components = (*COMPONENTS, *losses, *list_data_parallel_components(section.recipe))
    return PlannedArtefact("discretizer", name, spec, inputs, components, outside)


def plan_pretrained_discretizer(
    resolver: Resolver, name: str, inputs: dict[str, PlannedArtefact]
) -> PlannedArtefact:
    """A VQGAN from a file.

    The file's sum and the content of its ``config`` are in the key; their paths are not.
    """
    section = resolver.config.discretizers[name]
    spec: dict = {"checkpoint": dump_section(section.checkpoint, without=("path",))}
    if section.config is not None:
        from pipeline.models.pretrained.vqgan_config import read_architecture  # loads taming

        with prefix_errors(f"discretizers.{name}.config: "):
            spec["architecture"] = read_architecture(Path(section.config).expanduser())
    if section.dataset is not None:
        read = read_spec("discretizer", spec)
        check_grid(resolver.config, f"discretizers.{name}", read, section.dataset)
    outside = {"checkpoint": section.checkpoint.path}
    return PlannedArtefact("discretizer", name, spec, inputs, CHECKPOINT, outside)


def check_test_images(config: Config, where: str, dataset: str) -> None:
    """Raise if there are no test images to measure a discretizer on."""
    if not config.datasets[dataset].test:
        raise RetortError(
            f"{where}.dataset: '{dataset}' has no test images to measure it on; set "
            f"datasets.{dataset}.test"
        )


def check_losses(config: Config, where: str, section: DiscretizerSettings) -> None:
    """Raise if images are too small or have the wrong channels for LPIPS or the discriminator."""
    channels, *sides = get_image_shape(config, section.dataset)
    side, adversarial = min(sides), section.adversarial
    if section.perceptual and (channels != 3 or side < LEAST_VGG_SIDE):
        raise RetortError(
            f"{where}.perceptual: LPIPS reads three channels and {LEAST_VGG_SIDE} px or more, data "
            f"set "
            f"'{section.dataset}' has {channels} and {side}; drop it"
        )
    if adversarial and side < 3 * 2**adversarial.layers:
        raise RetortError(
            f"{where}.adversarial.layers: {adversarial.layers} want images of "
            f"{3 * 2**adversarial.layers} px, "
            f"data set '{section.dataset}' has {side}; ask for fewer"
        )
