"""Discretisers: trained on a data set that has images to measure them on."""

from pipeline.config import Config
from pipeline.errors import RetortError
from pipeline.plan import Entry, dumped
from pipeline.resolver import Resolver


def entry(resolver: Resolver, name: str) -> Entry:
    """A VQGAN."""
    section, where = resolver.config.discretizers[name], f"discretizers.{name}"
    data = resolver.get("datasets", section.dataset, f"{where}.dataset")
    check_discretizer(resolver.config, where, section.dataset)
    spec = {**dumped(section, without=("dataset",)), **resolver.common()}
    return Entry("discretizer", name, spec, {"dataset": data})


def check_discretizer(config: Config, where: str, dataset: str) -> None:
    """Raise if there are no test images to measure a discretiser on."""
    if not config.datasets[dataset].test:
        raise RetortError(
            f"{where}.dataset: '{dataset}' has no test images to measure it on; set "
            f"datasets.{dataset}.test"
        )
