"""Own networks tried before anything is made: whether gradient attacks can be trusted on them.

JPEG, quantisation and randomised smoothing are part of a network's code, so random weights show
them. Our own networks have none of them. The evaluation looks again at the trained weights.
"""

import torch

from pipeline.config.reader import Config
from pipeline.contracts.own_files import is_own
from pipeline.core.seeding import make_generator
from pipeline.discovery import cache_by_plugins
from pipeline.models.classifier import Classifier, find_model_family, initialise_classifier
from pipeline.models.output_checks import GREY_LEVEL, check_outputs
from pipeline.planning.compatibility.fits import get_image_shape, list_dataset_classes
from pipeline.planning.flops import ImageShape
from pipeline.planning.plan import PlannedArtefact

TRIED_IMAGES = 2


def has_misleading_gradients(config: Config, model: PlannedArtefact, data: str) -> bool:
    """Whether a model is an own network whose gradients mislead; ``data`` has its classes."""
    name, side = model.spec.get("model"), model.spec.get("resize")
    if not isinstance(name, str) or not is_own(find_model_family(name).__name__):
        return False
    channels, *sides = get_image_shape(config, data)
    shape = (channels, side, side) if side else (channels, *sides)
    return not try_gradients(name, len(list_dataset_classes(config, data)), shape)


@cache_by_plugins
def try_gradients(name: str, class_count: int, shape: ImageShape) -> bool:
    """Whether the gradients of a network with random weights say something, on random images."""
    channels = shape[0]
    with torch.random.fork_rng(devices=[]):
        model = initialise_classifier(name, class_count, [0.0] * channels, [1.0] * channels, seed=0)
        fill_zero_weights(model)
        rng = make_generator("gradient trial")
        x = torch.randint(0, 256, (TRIED_IMAGES, *shape), generator=rng) * GREY_LEVEL
        y = torch.randint(0, class_count, (TRIED_IMAGES,), generator=rng)
        return check_outputs(model.eval(), x, y).is_differentiable


def fill_zero_weights(model: Classifier) -> None:
    """Draw weights that start at zero, such as those of a head, behind which all outputs are 0."""
    rng = make_generator("gradient trial", "weights")
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1 and not weight.any():
                weight.normal_(std=0.1, generator=rng)
