"""The report: one over all artefacts of a configuration."""

from torch import nn

from pipeline.config.reader import Config
from pipeline.core.meta_device import build_on_meta
from pipeline.errors import RetortError
from pipeline.models.classifier import find_model_family
from pipeline.planning.components import CLASSIFIER, DATA, IN_DATASET_KEY, IN_MODEL_KEY
from pipeline.planning.plan import PlannedArtefact
from pipeline.planning.resolver import Resolver
from pipeline.planning.suite_models import list_candidates, name_figure_models
from pipeline.schema import dump_section

COMPONENTS = (
    "pipeline.models.output_checks",
    *DATA,
    "pipeline.banks.image_codec",
    "pipeline.banks.shards",
    "pipeline.core.attack_protocol",
    "pipeline.core.seeding",
    "pipeline.models.vqgan",
    "pipeline.report.artefact_tables",
    "pipeline.report.attack_labels",
    "pipeline.report.bank_samples",
    "pipeline.report.figure_files",
    "pipeline.report.figures",
    "pipeline.report.statistics.intervals",
    "pipeline.report.outcomes",
    "pipeline.report.output_doubts",
    "pipeline.report.page.accuracy_charts",
    "pipeline.report.page.assets",
    "pipeline.report.page.chart",
    "pipeline.report.page.graph_chart",
    "pipeline.report.page.name_positions",
    "pipeline.report.page.provenance",
    "pipeline.report.page.render",
    "pipeline.report.page.results_table",
    "pipeline.report.page.run_charts",
    "pipeline.report.page.setting",
    "pipeline.report.results.answer",
    "pipeline.report.results.files",
    "pipeline.report.results.rows",
    "pipeline.report.results.threats",
    "pipeline.report.sanity_checks",
    "pipeline.report.statistics.calibration",
    "pipeline.report.statistics.paired",
    "pipeline.report.statistics.resampling",
    "pipeline.report.statistics.sections",
    "pipeline.report.statistics.worst_case",
    "pipeline.report.tables",
    "pipeline.stages.report",
)
OPTIONAL = {
    "banks": ("pipeline.report.results.bank_costs",),
    "shifts": (
        "pipeline.data.imagenet",
        "pipeline.report.distribution_shift",
        "pipeline.report.shift_table",
    ),
    "epochs": ("pipeline.report.epoch_table",),
    "boundaries": ("pipeline.report.boundary_table",),
    "figures": (
        *CLASSIFIER,
        "pipeline.core.losses",
        "pipeline.core.pairing",
        "pipeline.core.pgd",
        "pipeline.report.paper_figures.bank_rows",
        "pipeline.report.paper_figures.canvas",
        "pipeline.report.paper_figures.cosine",
        "pipeline.report.paper_figures.grad_cam",
        "pipeline.report.paper_figures.landscape",
        "pipeline.report.paper_figures.path_accuracy",
        "pipeline.report.paper_figures.radius",
        "pipeline.report.paper_figures.section",
        "pipeline.report.paper_figures.shift_distances",
        "pipeline.report.paper_figures.training_radius",
    ),
    "tables": (
        "pipeline.report.boundary_table",
        "pipeline.report.distribution_shift",
        "pipeline.report.papers.comparison",
        "pipeline.report.papers.differences",
        "pipeline.report.papers.methods",
        "pipeline.report.papers.metrics",
        "pipeline.report.papers.models",
        "pipeline.report.papers.networks",
        "pipeline.report.papers.printed",
        "pipeline.report.papers.render",
        "pipeline.report.papers.section",
        "pipeline.report.papers.settings",
        "pipeline.report.papers.training_counts",
        "pipeline.report.shift_table",
    ),
    "wasserstein": (
        *CLASSIFIER,
        "pipeline.attacks.corruptions",
        "pipeline.models.generator",
        "pipeline.report.distance_study",
        "pipeline.report.wasserstein",
    ),
}
EXEMPT = {
    **IN_DATASET_KEY,
    **IN_MODEL_KEY,
    "pipeline.core.augment": "random crops are cut in training, not here",
    "pipeline.core.batch": "Q's training objective alone",
    "pipeline.training.gradient_matching": "no count of a report has IGDM's term",
    "pipeline.core.topk_logits": "teacher outputs of banks are not shown",
}


def plan_report(
    resolver: Resolver,
    students: list[PlannedArtefact],
    warm_generators: list[tuple[PlannedArtefact, str]],
) -> None:
    """Plan the report over all artefacts; the names that it prints are part of its spec."""
    spec = dump_section(resolver.config.report)
    if words := resolver.config.report.figure_models:
        candidates = list_candidates(resolver, students, warm_generators)
        spec["figure_models"] = name_figure_models(words, candidates)
    names = [[f"{kind}/{name}", ref] for (kind, name), ref in resolver.plan.refs_by_name.items()]
    spec["names"] = names
    inputs = dict(resolver.plan.artefacts)
    suites = resolver.config.suites.values()
    banks = {student.bank for student in resolver.config.students.values()} - {None}
    components = COMPONENTS
    components += OPTIONAL["banks"] if len(banks) > 1 else ()
    components += OPTIONAL["shifts"] if any(suite.dataset for suite in suites) else ()
    components += OPTIONAL["epochs"] if any(suite.epochs for suite in suites) else ()
    components += OPTIONAL["boundaries"] if any(suite.boundary_count for suite in suites) else ()
    components += OPTIONAL["figures"] if resolver.config.report.figures else ()
    components += OPTIONAL["tables"] if resolver.config.report.tables else ()
    if (reference := resolver.config.report.corruption_reference) is not None:
        resolver.resolve_classifier(reference, "report.corruption_reference")
    if (study := resolver.config.report.wasserstein) is not None:
        place = "report.wasserstein.network"
        resolver.resolve_classifier(study.network, place)
        check_batchnorm(resolver.config, place, study.network)
        components += OPTIONAL["wasserstein"]
    resolver.plan.add_artefact(PlannedArtefact("report", "report", spec, inputs, components))


def check_batchnorm(config: Config, place: str, network: str) -> None:
    """Raise if a network has no BatchNorm whose statistics could be compared; a CLIP is not asked.

    Without the check, the report would fail once all else is made.
    """
    section = config.teachers.get(network) or config.students[network]
    if section.model is None:
        return
    model = build_on_meta(find_model_family(section.model).build, section.model, 2)
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        raise RetortError(
            f"{place}: '{network}' is a '{section.model}', which has no BatchNorm whose inputs "
            "could be compared; name a network that has"
        )
