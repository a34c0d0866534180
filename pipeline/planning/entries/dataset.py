"""Data sets: their source must have as many images as are asked for."""

from pipeline.config.dataset_source import collection, keyed, places_in
from pipeline.errors import RetortError
from pipeline.planning.plan import Entry, dumped
from pipeline.planning.resolver import Resolver


def entry(resolver: Resolver, name: str) -> Entry:
    """A data set, cut out of its source."""
    section = resolver.config.datasets[name]
    source = collection(section.source)
    for split, asked in (("train", section.train + section.val), ("test", section.test)):
        known = source.sizes[split]
        if known is not None and asked > known:
            also = " with val" if split == "train" and section.val else ""
            raise RetortError(
                f"datasets.{name}.{split}: {asked} images asked for{also}, "
                f"{source.name} has {known}; ask for fewer"
            )
    spec = {**dumped(section), "source": keyed(section.source)}
    outside = places_in(section.source)
    plugins = (source.module, *(("pipeline.stages.prepare_index",) if source.index else ()))
    return Entry("dataset", name, spec, {}, plugins, outside=outside)
