"""Resolving a configuration's names into planned artefacts, with every check on how they fit."""

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.collection import collection, keyed, places_in
from pipeline.config import Config, parse
from pipeline.errors import RetortError
from pipeline.fits import (
    check_bank,
    check_discretizer,
    check_generator,
    check_needs,
    check_recipe,
    check_teacher,
    data_of,
    family_for,
    labels_given,
)
from pipeline.plan import Entry, Plan, check_store, dumped
from pipeline.plugins import suggestion
from pipeline.sections import Student, Teacher
from pipeline.students import check_student, settings


@dataclass
class Resolver:
    """Turns names into entries, each once; ``path`` is the chain of names being resolved."""

    config: Config
    plan: Plan
    known: dict[tuple[str, str], Entry] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)

    def everything(self) -> None:
        """Resolve every entry of the configuration, then evaluations and the report."""
        for section in ("datasets", "teachers", "discretizers", "banks", "generators"):
            for name in getattr(self.config, section):
                self.get(section, name)
        students = self.students()
        evaluations = [e for name in self.config.suites for e in self.suite(name, students)]
        if self.config.report is not None:
            self.report(students, evaluations)

    def get(self, section: str, name: str, seen_from: str = "") -> Entry:
        """The entry of a name in a section.

        Raises:
            RetortError: it does not exist, or it is made from itself.
        """
        entries = getattr(self.config, section)
        if name not in entries:
            hint = suggestion(name, entries)
            raise RetortError(f"{seen_from}: {section} has no '{name}'{hint}")
        if (section, name) not in self.known:
            label = f"{section}.{name}"
            if label in self.path:
                chain = " -> ".join([*self.path[self.path.index(label) :], label])
                raise RetortError(f"{label}: is made from itself ({chain}); break the cycle")
            self.path.append(label)
            self.known[section, name] = self.plan.add(getattr(self, f"_{section}")(name))
            self.path.pop()
        return self.known[section, name]

    def _datasets(self, name: str) -> Entry:
        section = self.config.datasets[name]
        source = collection(section.source)
        for split, asked in (("train", section.train + section.val), ("test", section.test)):
            known = source.sizes[split]
            if known is not None and asked > known:
                also = " with val" if split == "train" and section.val else ""
                raise RetortError(
                    f"datasets.{name}.{split}: {asked} images asked for{also}, "
                    f"{source.name} has {known}; ask for fewer"
                )
        spec = {**dumped(section), "source": keyed(section.source)}
        outside = places_in(section.source)
        return Entry("dataset", name, spec, {}, (source.module,), outside=outside)

    def _teachers(self, name: str) -> Entry:
        section = self.config.teachers[name]
        where = f"teachers.{name}"
        inputs = {"dataset": self.get("datasets", section.dataset, f"{where}.dataset")}
        spec = {**dumped(section, without=("dataset",)), **self.common()}
        check_teacher(self.config, where, section)
        if section.checkpoint is not None:
            return self.foreign(name, section, inputs)
        plugins = [objective_module(section.objective)]
        if section.clip is not None:
            plugins.append("pipeline.clip_teacher")
        else:
            plugins.append(
                family_for(self.config, section.model, f"{where}.model", section.dataset)
            )
        check_recipe(self.config, where, section)
        check_needs(where, section.objective, (), labels_given(self.config, section.dataset))
        return Entry("teacher", name, spec, inputs, tuple(plugins))

    def foreign(self, name: str, section: Teacher, inputs: dict[str, Entry]) -> Entry:
        """A teacher from a file: neither seed nor device nor the file's place changes it."""
        family = family_for(self.config, section.model, f"teachers.{name}.model", section.dataset)
        spec = dumped(section, without=("dataset", "recipe", "objective"))
        outside = {"checkpoint": spec["checkpoint"].pop("path")}
        maker = "pipeline.foreign_teacher"
        return Entry("teacher", name, spec, inputs, (family,), maker, outside)

    def _discretizers(self, name: str) -> Entry:
        section = self.config.discretizers[name]
        data = self.get("datasets", section.dataset, f"discretizers.{name}.dataset")
        check_discretizer(self.config, f"discretizers.{name}", section.dataset)
        spec = {**dumped(section, without=("dataset",)), **self.common()}
        return Entry("discretizer", name, spec, {"dataset": data})

    def _banks(self, name: str) -> Entry:
        section, where = self.config.banks[name], f"banks.{name}"
        inputs = {
            "dataset": self.get("datasets", section.dataset, f"{where}.dataset"),
            "teacher": self.classifier(section.teacher, f"{where}.teacher"),
            "discretizer": self.get("discretizers", section.discretizer, f"{where}.discretizer"),
        }
        check_bank(self.config, where, section)
        spec = {**dumped(section, without=tuple(inputs)), **self.common()}
        return Entry("bank", name, spec, inputs)

    def _generators(self, name: str) -> Entry:
        section, where = self.config.generators[name], f"generators.{name}"
        inputs = {"teacher": self.classifier(section.teacher, f"{where}.teacher")}
        check_generator(self.config, where, section)
        spec = {**dumped(section, without=("teacher",)), **self.common()}
        family = family_for(self.config, section.model, f"{where}.model")
        return Entry("generator", name, spec, inputs, (family, "pipeline.objectives.data_free_kd"))

    def students(self) -> list[Entry]:
        """Every student, one entry a seed."""
        return [
            self.seeded(name, seed)
            for name, section in self.config.students.items()
            for seed in seeds_of(section, self.config.seed)
        ]

    def _students(self, name: str) -> Entry:
        return self.student(name, seeds_of(self.config.students[name], self.config.seed)[0])

    def seeded(self, name: str, seed: int) -> Entry:
        """One student of one seed."""
        first = self.get("students", name)
        if first.spec["seed"] == seed:
            return first
        return self.plan.add(self.student(name, seed))

    def student(self, name: str, seed: int) -> Entry:
        """The entry of a student, after checking that its objective gets what it needs."""
        section, where = self.config.students[name], f"students.{name}"
        inputs = {}
        for role, label in (
            ("dataset", "datasets"),
            ("bank", "banks"),
            ("generator", "generators"),
        ):
            if (target := getattr(section, role)) is not None:
                inputs[role] = self.get(label, target, f"{where}.{role}")
        if section.extra is not None:
            inputs["extra"] = self.get("datasets", section.extra.dataset, f"{where}.extra.dataset")
        for role, target in section.teachers.items():
            inputs[f"teachers.{role}"] = self.classifier(target, f"{where}.teachers.{role}")
        check_student(self.config, where, section)
        more = settings(self.config, section)
        without = ("dataset", "bank", "generator", "extra", "teachers", "seeds")
        spec = {**dumped(section, without=without), **more, **self.common(), "seed": seed}
        family = family_for(self.config, section.model, f"{where}.model", section.dataset)
        plugins = (objective_module(section.objective), family)
        plugins += ("pipeline.mixture",) if more else ()
        return Entry("student", f"{name}-{seed}", spec, inputs, plugins)

    def classifier(self, name: str, where: str) -> Entry:
        """A teacher, or a student of ours in its place."""
        known = {**self.config.teachers, **self.config.students}
        if name not in known:
            raise RetortError(f"{where}: no teacher '{name}'{suggestion(name, known)}")
        return self.get("teachers" if name in self.config.teachers else "students", name, where)

    def suite(self, name: str, students: list[Entry]) -> list[Entry]:
        """Evaluations of one suite."""
        suite = self.config.suites[name]
        models: dict[str, tuple[Entry, str]] = {}  # label -> artefact, classifier it descends from
        if "students" in suite.models:
            models |= {e.name: (e, e.name.rpartition("-")[0]) for e in students}
        if "teachers" in suite.models:
            models |= {n: (self.get("teachers", n), n) for n in self.config.teachers}
        if "generators" in suite.models:
            for n, section in self.config.generators.items():
                models[f"{n}-warm"] = (self.get("generators", n), section.teacher)
        plugins = tuple(f"pipeline.attacks.{a}" for attack in suite.attacks for a in attack)
        entries = []
        for label, (model, base) in models.items():
            data = self.tested_on(base, name)
            spec = {"attacks": dumped(suite)["attacks"], **self.common()}
            inputs = {"model": model, "dataset": data}
            entries.append(
                self.plan.add(Entry("evaluation", f"{label}.{name}", spec, inputs, plugins))
            )
        return entries

    def tested_on(self, model: str, suite: str) -> Entry:
        """The data set that a model is evaluated on, which must have test images."""
        name = data_of(self.config, model)
        if self.config.datasets[name].test == 0:
            raise RetortError(
                f"datasets.{name}.test: 0 images, but suite '{suite}' attacks '{model}' on them; "
                "ask for some"
            )
        return self.get("datasets", name)

    def report(self, students: list[Entry], evaluations: list[Entry]) -> None:
        """The report over everything; the names it prints are part of its content."""
        names = [[f"{kind}/{name}", ref] for (kind, name), ref in self.plan.names.items()]
        spec = {**dumped(self.config.report), "names": names}
        inputs = dict(self.plan.entries)
        self.plan.add(Entry("report", "report", spec, inputs))

    def common(self) -> dict:
        """What every computed artefact's key holds."""
        return {"seed": self.config.seed, "device": self.config.device}


def seeds_of(section: Student, default: int) -> tuple[int, ...]:
    """A student's seeds; the experiment's own if it names none."""
    return section.seeds or (default,)


def objective_module(objective: dict) -> str:
    """The module of an objective's spec."""
    (name,) = objective
    return f"pipeline.objectives.{name}"


def make_plan(config: Config) -> Plan:
    """Resolve a configuration into its artefacts.

    Raises:
        RetortError: a name that does not exist, a cycle, or entries that do not fit together.
    """
    plan = Plan(Path(config.store), config.run.model_dump(mode="json"))
    Resolver(config, plan).everything()
    return plan


def plan_from(raw: dict) -> Plan:
    """The plan of a configuration given as plain dicts and lists, its store looked at."""
    plan = make_plan(parse(raw))
    check_store(plan.store)
    return plan
