"""Data sets: the source must have as many images as the section asks for."""

from pipeline.config.dataset_source import collect_job_paths, open_dataset_plugin, strip_paths
from pipeline.errors import RetortError
from pipeline.planning.plan import PlannedArtefact
from pipeline.planning.resolver import Resolver
from pipeline.schema import dump_section

COMPONENTS = (
    "pipeline.core.images",
    "pipeline.data.splits",
    "pipeline.data.statistics",
    "pipeline.stages.prepare_data",
)
OPTIONAL = {
    "index": (  # a data set whose images stay in their files
        "pipeline.data.file_index",
        "pipeline.data.image_folder",
        "pipeline.data.lazy_images",
        "pipeline.stages.prepare_index",
    ),
}
EXEMPT = {
    "pipeline.core.augment": "random crops are cut in training, not here",
    "pipeline.core.seeding": "likewise",
    "pipeline.core.threat_models": "checks the radii of sections of banks alone",
    "pipeline.data.imagenet": "class names, which are in the spec",
}


def plan_artefact(resolver: Resolver, name: str) -> PlannedArtefact:
    """A data set of the first images of its source."""
    section = resolver.config.datasets[name]
    source = open_dataset_plugin(section.source)
    for split, asked in (("train", section.train + section.val), ("test", section.test)):
        known = source.sizes[split]
        if known is not None and asked > known:
            also = " with val" if split == "train" and section.val else ""
            raise RetortError(
                f"datasets.{name}.{split}: {asked} images asked for{also}, "
                f"{source.name} has {known}; ask for fewer"
            )
    spec = dump_section(section)
    spec["source"] = strip_paths(spec["source"])
    outside = collect_job_paths(section.source)
    components = (*COMPONENTS, source.module, *(OPTIONAL["index"] if source.index else ()))
    return PlannedArtefact("dataset", name, spec, {}, components, outside)
