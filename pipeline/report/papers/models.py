"""Our models with their settings and measurements, read from a study."""

from collections.abc import Sequence

from pipeline.config.specs import get_spec
from pipeline.report.boundary_table import BoundaryRisks, compute_boundary_risks
from pipeline.report.outcomes import ModelGroup, Study
from pipeline.report.papers.comparison import Model
from pipeline.report.papers.metrics import Measurements
from pipeline.report.papers.settings import find_network, make_setting_reader
from pipeline.report.shift_table import read_shifted_outcomes
from pipeline.store.artefact import Artefact

REVISION = 2


def read_models(study: Study) -> list[Model]:
    """Every evaluated model of a study, in the order of the report."""
    reader, surrogates = make_setting_reader(study), find_surrogates(study)
    return [
        Model(group.name, reader.describe(group.members[0]), read_group(study, group, surrogates))
        for group in study.groups
        if any(member.manifest.key in study.evaluated_keys for member in group.members)
    ]


def read_group(study: Study, group: ModelGroup, surrogates: dict[str, str]) -> Measurements:
    """What was measured on one model, for each of its seeds."""
    return Measurements(
        outcomes=group.outcomes,
        shifted=[read_shifted_outcomes(study, member) for member in group.members],
        risks=[read_risks(study, member) for member in group.members],
        surrogates=surrogates,
    )


def find_surrogates(study: Study) -> dict[str, str]:
    """The network of each teacher and student by its name, as transferred attacks name it."""
    kinds = (study.get_artefacts(kind).values() for kind in ("student", "teacher"))
    manifests = [model.manifest for models in kinds for model in models]
    return {study.name_surrogate_key(m.key): find_network(get_spec(m)) for m in manifests}


def read_risks(study: Study, model: Artefact) -> dict[int | None, BoundaryRisks]:
    """A model's boundary risks on its whole test set, by epoch."""
    found: dict[int | None, BoundaryRisks] = {}
    for evaluation in study.get_artefacts("evaluation").values():
        spec = get_spec(evaluation.manifest)
        if evaluation.manifest.inputs["model"] == model.manifest.key and has_risks(spec.attacks):
            points = study.outcomes_by_evaluation[evaluation.manifest.key]
            for point, risks in compute_boundary_risks(points).items():
                if point.part is None and point.corruption is None:
                    found[spec.epoch] = risks
    return found


def has_risks(attacks: Sequence[dict]) -> bool:
    """Whether a suite measures boundary risks."""
    return any("boundary_risk" in attack for attack in attacks)
