"""What each kind of artefact takes to make: FLOP, images shown to networks, bytes on disk.

FLOP are the networks' own, counted (``flops``), times the passes that an objective, a bank or an
attack takes, counted likewise (``passes``). Bytes are at most: every sample accepted. The text
tower of a CLIP is left out: its prompts are few beside the images.
"""

from dataclasses import dataclass
from math import prod

from pipeline.config.dataset_source import collection
from pipeline.config.reader import Config
from pipeline.config.recipe import Recipe
from pipeline.config.sections.bank import Bank
from pipeline.config.sections.generator import Generator
from pipeline.config.sections.student import Student
from pipeline.data_free.session import loss_of, sizes_of
from pipeline.models.vqgan import Architecture
from pipeline.planning import flops
from pipeline.planning.compatibility.fits import classes_of, shape_of
from pipeline.planning.compatibility.students import (
    StudentInputs,
    classes,
    data_of,
    describe_student,
)
from pipeline.planning.network_cost import architecture, network_of, quantiser
from pipeline.planning.plan import EPOCH, SEED
from pipeline.planning.step_cost import Bench
from pipeline.schema import make

FLOAT = 4  # bytes of a weight
HALF = 2  # bytes of a stored output
ROW = 64  # bytes of a row's numbers and of its share of the archive
PLACE = 200  # bytes of an indexed image's place
OUTCOME = 12  # bytes of an image's outcome under one attack, compressed


@dataclass(frozen=True)
class Price:
    """FLOP, images shown, bytes on disk."""

    flop: float = 0.0
    images: int = 0
    disk: int = 0


def shown(recipe: Recipe, rows: int) -> int:
    """Images that training shows, rests of epochs dropped."""
    return recipe.epochs * (rows // recipe.batch) * recipe.batch


def kept(recipe: Recipe) -> int:
    """How many sets of weights a training leaves."""
    return 1 + len(recipe.keep_epochs) + (recipe.select_on != "last")


def dataset(config: Config, name: str) -> Price:
    """Images, or where they lie."""
    section = config.datasets[name]
    source = collection(section.source)
    rows = section.train + section.val + section.test
    each = PLACE if source.index is not None else prod(source.shape) + 8
    return Price(disk=rows * each)


def teacher(config: Config, name: str) -> Price:
    """A training, or nothing but the file for one from elsewhere."""
    section = config.teachers[name]
    flop, size = network_of(config, name)
    if section.checkpoint is not None or section.open_clip is not None:
        return Price(disk=FLOAT * size)
    images = shown(section.recipe, config.datasets[section.dataset].train)
    passes = Bench(()).step(objective(section.objective), ()).student
    return Price(images * passes * flop, images, FLOAT * size * kept(section.recipe))


def objective(spec: dict) -> object:
    """The objective of a section."""
    ((name, options),) = spec.items()
    return make("objectives", "Objective", name, options)


def discretizer(config: Config, name: str) -> Price:
    """A training of encoder and decoder, three passes each; a file's costs none."""
    section = config.discretizers[name]
    side = shape_of(config, section.dataset)[1] if section.dataset else Architecture().resolution
    encoder, decoder, size = quantiser(config, name, side)
    if section.checkpoint is not None:
        return Price(disk=FLOAT * size)
    images = shown(section.recipe, config.datasets[section.dataset].train)
    return Price(3 * images * (encoder + decoder), images, FLOAT * size)


def bank(config: Config, name: str) -> Price:
    """Q, the ascent, Q again, the filter, and the outputs that are stored."""
    section = config.banks[name]
    rows = config.datasets[section.dataset].train
    model, _ = network_of(config, section.teacher)
    flop = section.clean_outputs * model
    if section.discretizer is not None:
        side = shape_of(config, section.dataset)[1]
        encoder, decoder, _ = quantiser(config, section.discretizer, side)
        flop += (1 + section.attacks) * (encoder + decoder) + model
        steps = section.attack.steps if section.attacks else 0
        ste = section.attack is not None and section.attack.grad_path == "ste"
        flop += steps * 2 * (model + ste * (encoder + decoder))
    if section.views is not None:
        flop += section.views.count * outputs(section) * model
    return Price(rows * flop, rows, rows * row_bytes(config, section))


def outputs(section: Bank) -> int:
    """Sides of which outputs are stored: clean images, samples."""
    return section.clean_outputs + (section.discretizer is not None)


def row_bytes(config: Config, section: Bank) -> int:
    """Bytes of a row at most: pixels or tokens, outputs, and ``ROW``."""
    count = len(classes_of(config, section.dataset))
    shape = shape_of(config, section.dataset)
    top = section.outputs.top_k if section.outputs is not None else 0
    logits = (2 * HALF * top + HALF) if top else HALF * count
    views = 1 if section.views is None else 1 + section.views.count
    size = ROW + views * outputs(section) * logits
    if section.discretizer is None:
        return size
    tokens = (
        shape[1] // architecture(config.discretizers[section.discretizer], config).factor
    ) ** 2
    if section.encoding == "tokens":
        return size + 2 * tokens
    return size + prod(shape) + 2 * tokens * section.tokens


def generator(config: Config, name: str) -> Price:
    """Stage I: the generator's steps through its teacher, and the student's on what it drew."""
    section = config.generators[unseeded(config, name)]
    shape, count = shape_of(config, data_of(config, section.teacher)), learnt(config, section)
    student, size = flops.classifier(section.model, shape, count)
    _, weights = drawn(config, section)
    images, own = synthesised(config, section, section.recipe, student)
    if not section.warm:
        images, own = 0, 0.0
    pool = section.pool * (prod(shape) + FLOAT * count)
    return Price(own + 3 * images * student, images, FLOAT * (3 * weights + size) + pool)


def unseeded(config: Config, name: str) -> str:
    """A generator's name in the configuration, which stands for all its seeds."""
    return name if name in config.generators else name.rpartition(SEED)[0]


def learnt(config: Config, section: Generator) -> int:
    """How many classes a generator's teacher knows."""
    return len(classes(config, section.teacher))


def drawn(config: Config, section: Generator) -> tuple[float, int]:
    """FLOP and parameters of a generator's network."""
    colours = shape_of(config, data_of(config, section.teacher))[0]
    return flops.generator(sizes_of(section, colours))


def synthesised(
    config: Config, section: Generator, recipe: Recipe, student: float
) -> tuple[int, float]:
    """Images that a run on a generator shows its student, and the FLOP that making them takes.

    A step of the generator is 3 F of its own and 2 of each network that its loss looks through;
    a batch without one is 1 F of generator and teacher; a round of pixels needs no generator.
    """
    guide, own = network_of(config, section.teacher)[0], drawn(config, section)[0]
    ((name, options),) = loss_of(section).items()
    needs = make("generator_losses", "Loss", name, options).needs()
    through = 2 * (("teacher" in needs) * guide + ("student" in needs) * student)
    batches = recipe.epochs * section.steps_per_epoch
    images = batches * (recipe.batch + section.replayed)
    if section.rounds is None:
        learnt_on = batches * recipe.batch / section.student_steps
        rest = batches * recipe.batch - learnt_on
        return images, learnt_on * (3 * own + through) + rest * (own + guide)
    made = recipe.epochs * section.rounds.made * section.rounds.iterations
    return images, made * ((section.rounds.of == "generator") * 3 * own + through)


def student(config: Config, name: str) -> Price:
    """A distillation: the passes of its objective's step, of every network in it."""
    section = config.students[name]
    flop, size = network_of(config, name)
    inputs = describe_student(config, section)
    passes = Bench(inputs.roles).step(objective(section.objective), inputs.stored)
    each = passes.student * flop
    for role, count in passes.teachers.items():
        guide = section.teachers.get(role)  # without one it is the student's early self
        each += count * (network_of(config, guide)[0] if guide else flop)
    if inputs.discretizer is not None:
        side = shape_of(config, inputs.dataset)[1]
        each += passes.discretizer * sum(quantiser(config, inputs.discretizer, side)[:2])
    images, own = seen(config, section, inputs, flop)
    return Price(images * each + own, images, FLOAT * size * kept(section.recipe))


def seen(config: Config, section: Student, inputs: StudentInputs, flop: float) -> tuple[int, float]:
    """Images that a student's training shows, and the FLOP that drawing them takes."""
    if inputs.generator is None:
        return shown(section.recipe, config.datasets[inputs.dataset].train), 0.0
    asked = {k: v for k, v in section.sampling.model_dump().items() if v is not None}
    source = config.generators[inputs.generator]
    known = {name: value for name, value in asked.items() if hasattr(source, name)}
    return synthesised(config, source.model_copy(update=known), section.recipe, flop)


def evaluation(config: Config, name: str) -> Price:
    """Every attack of a suite on one model, `model.suite`; attacks stop early on what falls."""
    label, _, suite = name.rpartition(".")
    section = config.suites[suite]
    label = label.rpartition(EPOCH)[0] if section.epochs else label
    own, base = tested(config, label)
    data = config.datasets[data_of(config, base)]
    shape = shape_of(config, data_of(config, base))
    attacked = network_of(config, section.surrogate)[0] if section.surrogate else own
    flop, images = 0.0, 0
    for spec in section.attacks:
        ((name, options),) = spec.items()
        attack = make("attacks", "Attack", name, options)
        count = min(attack.n_eval or data.test, data.test)
        flop += count * ((attack.passes(shape) - 1) * attacked + own)
        images += count
    return Price(flop, images, images * OUTCOME)


def tested(config: Config, label: str) -> tuple[float, str]:
    """FLOP of an evaluated model, and the teacher or student whose data it is tested on."""
    if label in config.teachers:
        return network_of(config, label)[0], label
    warm = unseeded(config, label.removesuffix("-warm"))
    if label.endswith("-warm") and warm in config.generators:
        section = config.generators[warm]
        shape = shape_of(config, data_of(config, section.teacher))
        count = len(classes(config, section.teacher))
        return flops.classifier(section.model, shape, count)[0], section.teacher
    base = label.rpartition("-")[0]
    return network_of(config, base)[0], base
