"""The data set on which a suite evaluates a model."""

from pipeline.errors import RetortError
from pipeline.planning.compatibility.fits import (
    check_image_shape,
    describe_class_difference,
    list_dataset_classes,
)
from pipeline.planning.plan import PlannedArtefact
from pipeline.planning.resolver import Resolver


def resolve_test_dataset(resolver: Resolver, model: str, own: str, suite: str) -> PlannedArtefact:
    """The data set that a model is evaluated on, which must have test images.

    It is the model's ``own`` or the suite's, whose classes and image size must be the same.
    """
    config, where = resolver.config, f"suites.{suite}.dataset"
    given = config.suites[suite].dataset
    name = given or own
    data = resolver.resolve_name("datasets", name, where)
    known = list_dataset_classes(config, own)
    if given and (found := list_dataset_classes(config, given)) != known:
        raise RetortError(
            f"{where}: '{given}' has other classes than '{own}', which '{model}' knows "
            f"({describe_class_difference(found, known)}); name a data set of these classes, or "
            "other models"
        )
    if given:
        check_image_shape(config, where, model, own, given)
    if config.datasets[name].test == 0:
        raise RetortError(
            f"datasets.{name}.test: 0 images, but suite '{suite}' attacks '{model}' on them; "
            "ask for some"
        )
    return data
