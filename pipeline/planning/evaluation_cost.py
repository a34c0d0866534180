"""The cost of an evaluation: FLOP of its attacks, an upper bound.

Attacks stop early on images that are misclassified already.
"""

from pipeline.config.reader import Config
from pipeline.config.specs import get_spec
from pipeline.planning.compatibility.fits import get_image_shape
from pipeline.planning.cost import ArtefactCost, measure_warm_student, strip_seed
from pipeline.planning.network_cost import measure_student, measure_teacher
from pipeline.planning.plan import PlannedArtefact
from pipeline.schema import make_plugin

OUTCOME_BYTES = 12  # bytes of an image's outcome under one attack, compressed


def compute_evaluation_cost(config: Config, evaluation: PlannedArtefact) -> ArtefactCost:
    """Cost of an evaluation: the sum of its attacks' costs, and the bytes of its outcomes."""
    costs = [cost for _, cost in list_attack_costs(config, evaluation)]
    images = sum(cost.images for cost in costs)
    uncounted = tuple(name for cost in costs for name in cost.uncounted)
    return ArtefactCost(sum(cost.flop for cost in costs), images, images * OUTCOME_BYTES, uncounted)


def list_attack_costs(
    config: Config, evaluation: PlannedArtefact
) -> list[tuple[str, ArtefactCost]]:
    """Name and cost of each attack of an evaluation, without the bytes of its outcomes."""
    inputs = evaluation.inputs
    own = measure_classifier(config, inputs["model"])
    attacked = measure_classifier(config, inputs["surrogate"]) if "surrogate" in inputs else own
    data = inputs["dataset"].name
    shape, rows = get_image_shape(config, data), config.datasets[data].test
    costs = []
    for spec in get_spec(evaluation).attacks:
        ((name, options),) = spec.items()
        attack = make_plugin("attacks", "Attack", name, options)
        count = min(attack.n_eval or rows, rows)
        if hasattr(attack, "count_passes"):
            flop = count * ((attack.count_passes(shape) - 1) * attacked + own)
            costs.append((name, ArtefactCost(flop, count)))
        else:
            costs.append((name, ArtefactCost(0.0, count, 0, (f"attack '{name}'",))))
    return costs


def measure_classifier(config: Config, model: PlannedArtefact) -> float:
    """FLOP of a forward pass of a planned teacher, student, or generator's warm student."""
    if model.kind == "student":
        return measure_student(config, model.name.rpartition("-")[0])[0]
    if model.kind == "generator":
        section = config.generators[strip_seed(config, model.name)]
        return measure_warm_student(config, section)[0]
    return measure_teacher(config, model.name)[0]
