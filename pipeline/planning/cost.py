"""The cost of making each kind of artefact: FLOP, images that networks see, bytes on disk.

FLOP are those of one forward pass (``flops``) times the number of passes that an objective
(``step_cost``), a bank or an attack takes. Bytes are an upper bound: they assume that every sample
is accepted. The text tower of a CLIP is left out, because its prompts are few beside the images.
"""

from dataclasses import dataclass
from math import prod

from pipeline.config.dataset_source import open_dataset_plugin
from pipeline.config.reader import Config
from pipeline.config.recipe import Recipe
from pipeline.config.sections.bank import BankSettings
from pipeline.config.sections.generator import GeneratorSettings
from pipeline.config.sections.student import StudentSettings
from pipeline.data_free.session import make_generator_size, resolve_loss
from pipeline.models.vqgan import VQGANArchitecture
from pipeline.planning import flops
from pipeline.planning.compatibility.fits import get_image_shape, list_dataset_classes
from pipeline.planning.compatibility.students import (
    StudentInputs,
    describe_student,
    find_model_dataset,
    list_model_classes,
)
from pipeline.planning.network_cost import (
    measure_discretizer,
    measure_model,
    measure_student,
    measure_teacher,
    resolve_architecture,
)
from pipeline.planning.plan import SEED_SEPARATOR
from pipeline.planning.step_cost import measure_objective
from pipeline.schema import make_plugin

WEIGHT_BYTES = 4  # bytes of a weight
OUTPUT_BYTES = 2  # bytes of a stored output
ROW_BYTES = 64  # bytes of a row's numbers and of its share of the tar file
INDEXED_IMAGE_BYTES = 200  # bytes of an indexed image's path in the index


@dataclass(frozen=True)
class ArtefactCost:
    """The cost of one artefact: FLOP, images that networks see, bytes on disk.

    ``uncounted`` names what its FLOP leave out: the user's own objective or attacks whose passes
    are not known.
    """

    flop: float = 0.0
    images: int = 0
    disk_bytes: int = 0
    uncounted: tuple[str, ...] = ()


def count_images_shown(recipe: Recipe, rows: int) -> int:
    """Number of images that training shows; incomplete last batches are dropped."""
    return recipe.epochs * (rows // recipe.batch) * recipe.batch


def count_kept_weights(recipe: Recipe) -> int:
    """Number of sets of weights that a training saves."""
    return 1 + len(recipe.keep_epochs) + (recipe.select_on != "last")


def compute_dataset_cost(config: Config, name: str) -> ArtefactCost:
    """Cost of a data set: the bytes of its images, or of an index of their files."""
    section = config.datasets[name]
    source = open_dataset_plugin(section.source)
    rows = section.train + section.val + section.test
    each = INDEXED_IMAGE_BYTES if source.index is not None else prod(source.shape) + 8
    return ArtefactCost(disk_bytes=rows * each)


def compute_teacher_cost(config: Config, name: str) -> ArtefactCost:
    """Cost of a teacher: its training, or only the bytes of one loaded from a file."""
    section = config.teachers[name]
    flop, size = measure_teacher(config, name)
    if section.checkpoint is not None or section.open_clip is not None:
        return ArtefactCost(disk_bytes=WEIGHT_BYTES * size)
    images = count_images_shown(section.recipe, config.datasets[section.dataset].train)
    passes, uncounted = measure_objective(section.objective, (), ())
    return ArtefactCost(
        images * passes.student * flop,
        images,
        WEIGHT_BYTES * size * count_kept_weights(section.recipe),
        uncounted,
    )


def compute_discretizer_cost(config: Config, name: str) -> ArtefactCost:
    """Cost of a discretizer: three passes of encoder and decoder; none for one from a file."""
    section = config.discretizers[name]
    side = (
        get_image_shape(config, section.dataset)[1]
        if section.dataset
        else VQGANArchitecture().resolution
    )
    encoder, decoder, size = measure_discretizer(config, name, side)
    if section.checkpoint is not None:
        return ArtefactCost(disk_bytes=WEIGHT_BYTES * size)
    images = count_images_shown(section.recipe, config.datasets[section.dataset].train)
    return ArtefactCost(3 * images * (encoder + decoder), images, WEIGHT_BYTES * size)


def compute_bank_cost(config: Config, name: str) -> ArtefactCost:
    """Cost of a bank: Q if it has one, the attack, Q again, the filter, and the stored outputs."""
    section = config.banks[name]
    rows = config.datasets[section.dataset].train
    model, _ = measure_model(config, section.teacher)
    flop = section.stores_clean_outputs * model
    if section.discretizer is not None:
        side = get_image_shape(config, section.dataset)[1]
        encoder, decoder, _ = measure_discretizer(config, section.discretizer, side)
        flop += (1 + section.perturbs_samples) * (encoder + decoder) + model
        steps = section.attack.steps if section.perturbs_samples else 0
        ste = section.attack is not None and section.attack.grad_path == "ste"
        flop += steps * 2 * (model + ste * (encoder + decoder))
    elif section.attacks_pixels:
        flop += model + measure_pixel_attack(config, section, model)
    elif section.images is not None:
        flop += model
    if section.views is not None:
        flop += section.views.count * count_stored_outputs(section) * model
    return ArtefactCost(rows * flop, rows, rows * count_row_bytes(config, section))


def measure_pixel_attack(config: Config, section: BankSettings, teacher: float) -> float:
    """FLOP of an image's attack in pixel space, where the teacher's forward pass takes some."""
    attack, against = section.attack, section.against or section.teacher
    through = measure_model(config, against)[0] + (attack.loss == "adaad") * teacher
    return attack.steps * 2 * through + (attack.loss == "rslad") * teacher


def count_stored_outputs(section: BankSettings) -> int:
    """How many of the two, clean images and samples, have their outputs stored."""
    return section.stores_clean_outputs + section.has_samples


def count_row_bytes(config: Config, section: BankSettings) -> int:
    """Upper bound of the bytes of a row: pixels or tokens, outputs, and ``ROW_BYTES``."""
    count = len(list_dataset_classes(config, section.dataset))
    shape = get_image_shape(config, section.dataset)
    top = section.outputs.top_k if section.outputs is not None else 0
    logits = (2 * OUTPUT_BYTES * top + OUTPUT_BYTES) if top else OUTPUT_BYTES * count
    views = 1 if section.views is None else 1 + section.views.count
    size = ROW_BYTES + views * count_stored_outputs(section) * logits
    if section.discretizer is None:
        return size + prod(shape) * section.has_samples
    tokens = (
        shape[1]
        // resolve_architecture(
            config.discretizers[section.discretizer], config
        ).downsampling_factor
    ) ** 2
    if section.encoding == "tokens":
        return size + 2 * tokens
    return size + prod(shape) + 2 * tokens * section.tokens


def compute_generator_cost(config: Config, name: str) -> ArtefactCost:
    """Cost of stage I: the generator's steps through its teacher, and the student's steps."""
    section = config.generators[strip_seed(config, name)]
    shape = get_image_shape(config, find_model_dataset(config, section.teacher))
    count = len(list_model_classes(config, section.teacher))
    student, size = measure_warm_student(config, section)
    _, weights = measure_generator_network(config, section)
    images, own = measure_synthesis(config, section, section.recipe, student)
    if not section.warm:
        images, own = 0, 0.0
    pool = section.pool * (prod(shape) + WEIGHT_BYTES * count)
    return ArtefactCost(
        own + 3 * images * student, images, WEIGHT_BYTES * (3 * weights + size) + pool
    )


def strip_seed(config: Config, name: str) -> str:
    """A generator's name in the configuration, without the seed of the planned artefact."""
    return name if name in config.generators else name.rpartition(SEED_SEPARATOR)[0]


def measure_warm_student(config: Config, section: GeneratorSettings) -> tuple[float, int]:
    """FLOP and parameters of the student that a generator warms up."""
    shape = get_image_shape(config, find_model_dataset(config, section.teacher))
    count = len(list_model_classes(config, section.teacher))
    return flops.measure_classifier(section.model, shape, count)


def measure_generator_network(config: Config, section: GeneratorSettings) -> tuple[float, int]:
    """FLOP and parameters of a generator's network."""
    colours = get_image_shape(config, find_model_dataset(config, section.teacher))[0]
    return flops.measure_generator(make_generator_size(section, colours))


def measure_synthesis(
    config: Config, section: GeneratorSettings, recipe: Recipe, student_flop: float
) -> tuple[int, float]:
    """Images that a generator gives its student, and the FLOP that making them takes.

    F is one forward pass. A step of the generator costs 3 F of its own and 2 F of each network that
    its loss backpropagates through. A batch without a step costs 1 F of generator and of teacher. A
    round that optimises pixels needs no generator.
    """
    teacher_flop, generator_flop = (
        measure_model(config, section.teacher)[0],
        measure_generator_network(config, section)[0],
    )
    ((name, options),) = resolve_loss(section).items()
    needs = make_plugin("generator_losses", "Loss", name, options).needs()
    through = 2 * (("teacher" in needs) * teacher_flop + ("student" in needs) * student_flop)
    batches = recipe.epochs * section.steps_per_epoch
    images = batches * (recipe.batch + section.replayed)
    if section.rounds is None:
        learnt_on = batches * recipe.batch / section.student_steps
        rest = batches * recipe.batch - learnt_on
        return images, learnt_on * (3 * generator_flop + through) + rest * (
            generator_flop + teacher_flop
        )
    made = recipe.epochs * section.rounds.made * section.rounds.iterations
    return images, made * ((section.rounds.of == "generator") * 3 * generator_flop + through)


def compute_student_cost(config: Config, name: str) -> ArtefactCost:
    """Cost of a student: the passes of every network in a step of its objective."""
    section = config.students[name]
    flop, size = measure_student(config, name)
    inputs = describe_student(config, section)
    igdm = section.igdm.alpha if section.igdm else 0.0
    passes, uncounted = measure_objective(section.objective, inputs.roles, inputs.stored, igdm)
    each = passes.student * flop
    for role, count in passes.teachers.items():
        teacher_name = section.teachers.get(role)  # no name: the student's own early weights
        each += count * (measure_model(config, teacher_name)[0] if teacher_name else flop)
    if inputs.discretizer is not None:
        side = get_image_shape(config, inputs.dataset)[1]
        each += passes.discretizer * sum(measure_discretizer(config, inputs.discretizer, side)[:2])
    images, own = measure_training_images(config, section, inputs, flop)
    return ArtefactCost(
        images * each + own,
        images,
        WEIGHT_BYTES * size * count_kept_weights(section.recipe),
        uncounted,
    )


def measure_training_images(
    config: Config, section: StudentSettings, inputs: StudentInputs, flop: float
) -> tuple[int, float]:
    """Number of images that a student's training shows, and the FLOP of generating them."""
    if inputs.generator is None:
        return count_images_shown(section.recipe, config.datasets[inputs.dataset].train), 0.0
    asked = {k: v for k, v in section.sampling.model_dump().items() if v is not None}
    source = config.generators[inputs.generator]
    known = {name: value for name, value in asked.items() if hasattr(source, name)}
    return measure_synthesis(config, source.model_copy(update=known), section.recipe, flop)
