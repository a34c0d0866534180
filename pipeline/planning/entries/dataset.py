"""Data sets: the source must have as many images as the section asks for."""

from pipeline.config.dataset_source import (
    DatasetPlugin,
    assign_sources,
    collect_job_paths,
    open_dataset_plugin,
    strip_paths,
)
from pipeline.config.sections.dataset import DatasetSettings
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
    "stratified": ("pipeline.core.seeding", "pipeline.data.stratified"),
    "skip": ("pipeline.data.bad_files",),  # which rows are left out
}
EXEMPT = {
    "pipeline.core.augment": "random crops are cut in training, not here",
    "pipeline.core.threat_models": "checks the radii of sections of banks alone",
    "pipeline.data.imagenet": "class names, which are in the spec",
}


def plan_artefact(resolver: Resolver, name: str) -> PlannedArtefact:
    """A data set of the first images of its source."""
    section = resolver.config.datasets[name]
    source = open_dataset_plugin(section.source)
    check_counts(f"datasets.{name}", section, source)
    spec = dump_section(section)
    spec["source"] = strip_paths(spec["source"])
    outside = collect_job_paths(section.source)
    components = (*COMPONENTS, source.module, *(OPTIONAL["index"] if source.index else ()))
    components += OPTIONAL["stratified"] if section.stratified else ()
    components += OPTIONAL["skip"] if section.on_bad_file == "skip" else ()
    return PlannedArtefact("dataset", name, spec, {}, components, outside)


def check_counts(where: str, section: DatasetSettings, source: DatasetPlugin) -> None:
    """Raise if a source is known to have fewer images, or cannot leave out bad files."""
    taken = assign_sources(source.sizes, section.stratified)
    for split, known in source.sizes.items():
        users = [name for name, own in taken.items() if own == split]
        asked = sum(getattr(section, user) for user in users)
        if known is not None and asked > known:
            others = [user for user in users if user != split and getattr(section, user)]
            also = f" with {' and '.join(others)}" if others else ""
            raise RetortError(
                f"{where}.{split}: {asked} images asked for{also}, {source.name} has {known}; ask "
                "for fewer"
            )
    if section.on_bad_file == "skip" and source.index is None:
        raise RetortError(
            f"{where}.on_bad_file: {source.name} is read as a whole; drop it, and delete bad files"
        )
