"""How each model of a study was made, as far as a printed row says it too."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config.specs import get_spec
from pipeline.discovery import load_plugin
from pipeline.report.outcomes import Study
from pipeline.report.papers.networks import TEACHERS_FROM_FILES, is_called, is_network
from pipeline.schema import get_defaults
from pipeline.store.artefact import Artefact

REVISION = 4


@dataclass(frozen=True)
class TeacherSetting:
    """A teacher.

    Attributes:
        model: our name of its network.
        objective: its training objective; empty for one from a file.
        name: its name in the configuration.
    """

    model: str
    objective: str
    name: str = ""

    def is_printed(self, printed: str) -> bool:
        """Whether it has the printed teacher's network, or is the one from a file by its name."""
        if (name := TEACHERS_FROM_FILES.get(printed)) is not None:
            return self.objective == "" and is_called(name, self.name)
        return is_network(printed, self.model)


@dataclass(frozen=True)
class Setting:
    """How one model was made.

    Attributes:
        kind: student, teacher or generator, whose warm student is meant.
        datasets: names of the data set whose classes it knows: its source, and our name for it.
        trained_on: the same of the images that it learns from.
        model: our name of its network.
        teachers: its teachers by role.
        objective: its training objective; empty for a model from a file or a warm student.
        options: all of the objective's options, defaults among them.
        epochs: of its training; None for a model from a file.
        kept_epochs: epochs whose weights were kept.
        train_count: number of its training images; None without a data set.
        is_augmented: whether RandAugment changes its training images.
        is_initialised: whether it began with weights from a file.
        has_extra: whether a second data set fills a share of its batches.
        losses: the losses of its generator; empty for DERD's, and without one.
        is_warm: whether its generator was warmed up; None without one.
        has_attacked_bank: whether the discretised samples of its bank were attacked; None without.
        has_igdm: whether its objective carries IGDM's term.
        name: its name in the configuration.
        has_generated_bank: whether the samples of its bank are generated images.
        bank_steps: number of steps of the attack on the samples of its bank; 0 without any.
    """

    kind: str
    datasets: frozenset[str]
    trained_on: frozenset[str]
    model: str
    teachers: Mapping[str, TeacherSetting]
    objective: str
    options: Mapping[str, Any]
    epochs: int | None
    kept_epochs: tuple[int, ...] = ()
    train_count: int | None = None
    is_augmented: bool = False
    is_initialised: bool = False
    has_extra: bool = False
    losses: str = ""
    is_warm: bool | None = None
    has_attacked_bank: bool | None = None
    has_igdm: bool = False
    name: str = ""
    has_generated_bank: bool = False
    bank_steps: int = 0


@dataclass(frozen=True)
class SettingReader:
    """Reads settings off the manifests of a study."""

    study: Study
    artefacts_by_key: Mapping[str, Artefact]

    def describe(self, model: Artefact) -> Setting:
        """The setting of a student, teacher or generator."""
        manifest, spec = model.manifest, get_spec(model.manifest)
        generator = model if manifest.kind == "generator" else self.get_input(model, "generator")
        trained = getattr(spec, "checkpoint", None) is None and not is_from_open_clip(spec)
        own, bank = self.get_input(model, "dataset"), self.get_input(model, "bank")
        objective, options = read_objective(spec)
        return Setting(
            kind=manifest.kind,
            datasets=self.name_dataset(self.find_class_dataset(model)),
            trained_on=self.name_dataset(own or self.find_class_dataset(model)),
            model=find_network(spec),
            teachers=self.list_teachers(model),
            objective=objective if trained else "",
            options=options,
            epochs=spec.recipe.epochs if trained else None,
            kept_epochs=spec.recipe.keep_epochs,
            train_count=get_spec(own.manifest).train if own and trained else None,
            is_augmented=spec.recipe.rand_augment > 0,
            is_initialised=getattr(spec, "init", None) is not None,
            has_extra="extra" in manifest.inputs,
            losses=next(iter(get_spec(generator.manifest).losses), "") if generator else "",
            is_warm=get_spec(generator.manifest).warm if generator else None,
            has_attacked_bank=self.find_bank_attack(model),
            has_igdm=getattr(spec, "igdm", None) is not None,
            name=self.study.find_name(manifest.key),
            has_generated_bank="images" in getattr(bank, "manifest", manifest).inputs,
            bank_steps=count_bank_steps(bank),
        )

    def get_input(self, model: Artefact, role: str) -> Artefact | None:
        """The artefact that a model reads in a role; None if there is none."""
        key = model.manifest.inputs.get(role)
        return None if key is None else self.artefacts_by_key[key]

    def find_class_dataset(self, model: Artefact) -> Artefact:
        """The data set whose classes a model knows: its own, or without labels its teacher's."""
        own = self.get_input(model, "dataset")
        if own is not None and not getattr(get_spec(model.manifest), "label_free", False):
            return own
        roles = [r for r in model.manifest.inputs if r == "teacher" or r.startswith("teachers.")]
        return self.find_class_dataset(self.get_input(model, roles[0] if roles else "generator"))

    def name_dataset(self, dataset: Artefact) -> frozenset[str]:
        """The names of a data set: of its source, and in the configuration."""
        source = get_spec(dataset.manifest).source
        name = source if isinstance(source, str) else next(iter(source))
        return frozenset((name, self.study.find_name(dataset.manifest.key)))

    def list_teachers(self, model: Artefact) -> dict[str, TeacherSetting]:
        """A model's teachers by role; that of a generator is the natural one."""
        found = {}
        for role in model.manifest.inputs:
            if role == "teacher" or role.startswith("teachers."):
                manifest = self.get_input(model, role).manifest
                spec = get_spec(manifest)
                loaded = getattr(spec, "checkpoint", None) is not None or is_from_open_clip(spec)
                name = role.partition(".")[2] or "natural"
                objective = "" if loaded else read_objective(spec)[0]
                own_name = self.study.find_name(manifest.key)
                found[name] = TeacherSetting(find_network(spec), objective, own_name)
        return found

    def find_bank_attack(self, model: Artefact) -> bool | None:
        """Whether the discretised samples of a model's bank were attacked; None without any."""
        bank = self.get_input(model, "bank")
        if bank is None or "discretizer" not in bank.manifest.inputs:
            return None
        return get_spec(bank.manifest).attack is not None


def make_setting_reader(study: Study) -> SettingReader:
    """A reader of a study's settings."""
    return SettingReader(study, {a.manifest.key: a for a in study.artefacts.values()})


def count_bank_steps(bank: Artefact | None) -> int:
    """The steps of the attack on a bank's samples; 0 without a bank or an attack."""
    attack = None if bank is None else get_spec(bank.manifest).attack
    return 0 if attack is None else attack.steps


def is_from_open_clip(spec: Any) -> bool:
    """Whether a spec is of an open_clip model, which comes from a file."""
    return getattr(spec, "open_clip", None) is not None


def find_network(spec: Any) -> str:
    """Our name of a spec's network; ``clip`` for a CLIP that is trained here."""
    return spec.open_clip.model if is_from_open_clip(spec) else spec.model or "clip"


def read_objective(spec: Any) -> tuple[str, dict[str, Any]]:
    """The name of a spec's objective and all its options; empty for a generator's warm student."""
    for name, options in (getattr(spec, "objective", None) or {}).items():
        return name, get_defaults(load_plugin("objectives", name).Objective) | options
    return "", {}
