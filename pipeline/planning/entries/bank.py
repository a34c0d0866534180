"""Banks: the teacher must know the classes, and there must be no more shards than blocks."""

from pipeline.config.reader import Config
from pipeline.config.sections.bank import BankSettings
from pipeline.config.specs import get_spec
from pipeline.errors import RetortError
from pipeline.planning.compatibility.fits import (
    check_image_shape,
    check_l2_radius,
    check_training_images,
    describe_class_count,
    get_image_shape,
    list_dataset_classes,
)
from pipeline.planning.compatibility.students import find_model_dataset, list_model_classes
from pipeline.planning.compatibility.token_grids import check_grid
from pipeline.planning.components import CLASSIFIER, DATA, IN_DATASET_KEY, IN_MODEL_KEY
from pipeline.planning.plan import PlannedArtefact
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
    "pixels": ("pipeline.banks.pixel_attack",),
    "reject": ("pipeline.banks.rejected",),
    "images": ("pipeline.banks.generated",),
    "pictures": ("pipeline.banks.image_codec",),
    "top_k": ("pipeline.core.topk_logits",),
    "views": ("pipeline.banks.stored_views", "pipeline.core.augment"),
    "forms": ("pipeline.models.frozen_forms",),
}
EXEMPT = {
    "pipeline.core.batch": "Q's training objective alone",
    **IN_DATASET_KEY,
    **IN_MODEL_KEY,
}
NETWORK_FIELDS = ("teacher", "against")
LARGEST_BLOCK_SIDE = 64  # px; `auto` stores larger samples as a picture each, others in blocks


def plan_artefact(resolver: Resolver, name: str) -> PlannedArtefact:
    """A bank of one teacher over a data set, with or without a discretizer.

    Its attack may be against a student, which must not read the bank: the resolver finds the cycle.
    """
    section, where = resolver.config.banks[name], f"banks.{name}"
    inputs = {
        "dataset": resolver.resolve_name("datasets", section.dataset, f"{where}.dataset"),
        "teacher": resolver.resolve_classifier(section.teacher, f"{where}.teacher"),
    }
    if section.discretizer is not None:
        label = f"{where}.discretizer"
        inputs["discretizer"] = resolver.resolve_name("discretizers", section.discretizer, label)
        check_grid(resolver.config, label, get_spec(inputs["discretizer"]), section.dataset)
    if section.images is not None:
        label = f"{where}.images"
        inputs["images"] = resolver.resolve_name("datasets", section.images, label)
        check_generated(resolver.config, label, section)
    if section.against is not None:
        inputs["against"] = resolver.resolve_classifier(section.against, f"{where}.against")
    check_bank(resolver.config, where, section)
    spec = {**make_bank_spec(resolver.config, section), **resolver.make_common_spec()}
    return PlannedArtefact("bank", name, spec, inputs, list_components(section, spec))


def make_bank_spec(config: Config, bank: BankSettings) -> dict:
    """The part of a bank's spec from its section; settings that change nothing are left out."""
    without = ["dataset", "teacher", "discretizer", "images", "against"]
    without += ["encoding", "outputs", "views"]
    if bank.discretizer is None and not bank.attacks_pixels:
        without += ["attack"] if bank.has_samples else ["attack", "reject"]
    spec = dump_section(bank, without=tuple(without))
    if bank.discretizer is not None and not bank.perturbs_samples:
        spec["attack"] = None
    if bank.has_samples and (form := resolve_encoding(config, bank)) != "blocks":
        spec["encoding"] = form
    if bank.outputs is not None and bank.outputs != type(bank.outputs)():
        spec["outputs"] = dump_section(bank.outputs)
        if bank.outputs.top_k:
            spec["outputs"]["classes"] = len(list_dataset_classes(config, bank.dataset))
    if bank.views is not None:
        spec["views"] = dump_section(bank.views)
    return spec


def resolve_encoding(config: Config, bank: BankSettings) -> str:
    """The encoding of samples; `auto` is resolved by the size of the images."""
    if bank.encoding != "auto":
        return bank.encoding
    return (
        "blocks" if max(get_image_shape(config, bank.dataset)[1:]) <= LARGEST_BLOCK_SIDE else "png"
    )


def list_components(bank: BankSettings, spec: dict) -> tuple[str, ...]:
    """The components of a bank, optional ones included where the section asks for them."""
    used = {
        "discretizer": bank.discretizer is not None,
        "pixels": bank.attacks_pixels,
        "reject": bank.reject == "keep",
        "images": bank.images is not None,
        "pictures": spec.get("encoding") in ("png", "jpeg"),
        "top_k": "top_k" in (spec.get("outputs") or ()) and bank.outputs.top_k > 0,
        "views": bank.views is not None,
        "forms": bank.bf16 or bank.teacher_form != "as_trained",
    }
    return COMPONENTS + tuple(m for name, needed in used.items() if needed for m in OPTIONAL[name])


def check_generated(config: Config, where: str, bank: BankSettings) -> None:
    """Raise if generated images have other classes or another size than a bank's data set."""
    generated, own = bank.images or "", bank.dataset
    if list_dataset_classes(config, generated) != list_dataset_classes(config, own):
        raise RetortError(f"{where}: '{generated}' has other classes than '{own}'; name the same")
    if get_image_shape(config, generated) != get_image_shape(config, own):
        raise RetortError(f"{where}: '{generated}' has images of another size than '{own}'")
    check_training_images(config, where, generated)


def check_bank(config: Config, where: str, bank: BankSettings) -> None:
    """Raise if a bank does not fit its networks or its data set.

    They must know the classes, because labels guide the attack and the filter.
    """
    own = list_dataset_classes(config, bank.dataset)
    for field in NETWORK_FIELDS:
        if (name := getattr(bank, field)) is not None:
            check_bank_classes(config, f"{where}.{field}", name, bank.dataset)
    if bank.outputs is not None and bank.outputs.top_k >= len(own):
        raise RetortError(
            f"{where}.outputs.top_k: {bank.outputs.top_k} of {len(own)} classes; ask for fewer, or "
            "for 0, which stores all"
        )
    check_training_images(config, f"{where}.dataset", bank.dataset)
    if bank.perturbs_samples and bank.attack.norm == "l2":
        check_l2_radius(config, f"{where}.attack.eps", bank.attack.eps, bank.dataset)
    blocks = -(-config.datasets[bank.dataset].train // bank.block)
    if bank.shards > blocks:
        raise RetortError(
            f"{where}.shards: {bank.shards} shards, but its images are {blocks} blocks of "
            f"{bank.block}; set it to {blocks} or less, or make 'block' smaller"
        )
    for field in NETWORK_FIELDS:
        if (name := getattr(bank, field)) is not None:
            learnt = find_model_dataset(config, name)
            check_image_shape(config, f"{where}.{field}", name, learnt, bank.dataset)


def check_bank_classes(config: Config, place: str, name: str, dataset: str) -> None:
    """Raise if a teacher or student knows other classes than a bank's data set has."""
    known, own = list_model_classes(config, name), list_dataset_classes(config, dataset)
    if known != own:
        raise RetortError(
            f"{place}: '{name}' knows {len(known)} classes, data set "
            f"'{dataset}' has {describe_class_count(known, own)}; name a teacher of the same "
            f"classes"
        )
