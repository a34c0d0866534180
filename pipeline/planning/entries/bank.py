"""Banks: their teacher must know the images, and their shards must not outnumber the blocks."""

from pipeline.config.reader import Config
from pipeline.config.sections.bank import Bank
from pipeline.config.specs import spec_of
from pipeline.errors import RetortError
from pipeline.planning.compatibility.fits import (
    check_size,
    classes_of,
    counted,
    shape_of,
)
from pipeline.planning.compatibility.grids import check_grid
from pipeline.planning.compatibility.students import classes, data_of
from pipeline.planning.components import CLASSIFIER, DATA, IN_DATASET_KEY, IN_MODEL_KEY
from pipeline.planning.plan import Entry
from pipeline.planning.resolver import Resolver
from pipeline.schema import dump_section

COMPONENTS = (
    *DATA,
    *CLASSIFIER,
    "pipeline.banks.shards",
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.seeding",
    "pipeline.core.threat_models",
    "pipeline.stages.build_bank",
)
OPTIONAL = {
    "discretizer": ("pipeline.models.vqgan",),
    "reject": ("pipeline.banks.rejected",),
    "pictures": ("pipeline.banks.image_codec",),
    "top_k": ("pipeline.core.topk_logits",),
    "views": ("pipeline.banks.stored_views", "pipeline.core.augment"),
}
EXEMPT = {
    "pipeline.core.batch": "Q's training objective alone",
    **IN_DATASET_KEY,
    **IN_MODEL_KEY,
}
BLOCK_SIDE = 64  # px; up to it samples are rows of blocks, above it each is a picture


def entry(resolver: Resolver, name: str) -> Entry:
    """A bank of one teacher over a data set, with a discretiser or without."""
    section, where = resolver.config.banks[name], f"banks.{name}"
    inputs = {
        "dataset": resolver.get("datasets", section.dataset, f"{where}.dataset"),
        "teacher": resolver.classifier(section.teacher, f"{where}.teacher"),
    }
    if section.discretizer is not None:
        label = f"{where}.discretizer"
        inputs["discretizer"] = resolver.get("discretizers", section.discretizer, label)
        check_grid(resolver.config, label, spec_of(inputs["discretizer"]), section.dataset)
    check_bank(resolver.config, where, section)
    spec = {**described(resolver.config, section), **resolver.common()}
    return Entry("bank", name, spec, inputs, components(section, spec))


def described(config: Config, bank: Bank) -> dict:
    """What a bank's key holds of its section: settings that change nothing are left out."""
    without = ["dataset", "teacher", "discretizer", "encoding", "outputs", "views"]
    if bank.discretizer is None:
        without += ["attack", "reject"]
    spec = dump_section(bank, without=tuple(without))
    if bank.discretizer is not None and not bank.attacks:
        spec["attack"] = None
    if bank.discretizer is not None and (form := encoding(config, bank)) != "blocks":
        spec["encoding"] = form
    if bank.outputs is not None and bank.outputs != type(bank.outputs)():
        spec["outputs"] = dump_section(bank.outputs)
        if bank.outputs.top_k:
            spec["outputs"]["classes"] = len(classes_of(config, bank.dataset))
    if bank.views is not None:
        spec["views"] = dump_section(bank.views)
    return spec


def encoding(config: Config, bank: Bank) -> str:
    """How samples are stored, `auto` resolved by the size of the images."""
    if bank.encoding != "auto":
        return bank.encoding
    return "blocks" if max(shape_of(config, bank.dataset)[1:]) <= BLOCK_SIDE else "png"


def components(bank: Bank, spec: dict) -> tuple[str, ...]:
    """What makes a bank, with what only some banks are made with."""
    used = {
        "discretizer": bank.discretizer is not None,
        "reject": bank.discretizer is not None and bank.reject == "keep",
        "pictures": spec.get("encoding") in ("png", "jpeg"),
        "top_k": "top_k" in (spec.get("outputs") or ()) and bank.outputs.top_k > 0,
        "views": bank.views is not None,
    }
    return COMPONENTS + tuple(m for name, needed in used.items() if needed for m in OPTIONAL[name])


def check_bank(config: Config, where: str, bank: Bank) -> None:
    """Raise if a bank's teacher does not know its images: their labels guide attack and filter."""
    known, own = classes(config, bank.teacher), classes_of(config, bank.dataset)
    if known != own:
        raise RetortError(
            f"{where}.teacher: '{bank.teacher}' knows {len(known)} classes, data set "
            f"'{bank.dataset}' has {counted(known, own)}; name a teacher of the same classes"
        )
    if bank.outputs is not None and bank.outputs.top_k >= len(own):
        raise RetortError(
            f"{where}.outputs.top_k: {bank.outputs.top_k} of {len(own)} classes; ask for fewer, or "
            "for 0, which stores all"
        )
    blocks = -(-config.datasets[bank.dataset].train // bank.block)
    if bank.shards > blocks:
        raise RetortError(
            f"{where}.shards: {bank.shards} shards, but its images are {blocks} blocks of "
            f"{bank.block}; set it to {blocks} or less, or make 'block' smaller"
        )
    learnt = data_of(config, bank.teacher)
    check_size(config, f"{where}.teacher", bank.teacher, learnt, bank.dataset)
