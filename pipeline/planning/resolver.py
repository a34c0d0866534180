"""Turning the configuration's names into planned artefacts, each once; cycles are found."""

from dataclasses import dataclass, field

from pipeline.config.reader import Config
from pipeline.config.specs import get_spec
from pipeline.discovery import load_plugin, suggest_known
from pipeline.errors import RetortError
from pipeline.planning.plan import Plan, PlannedArtefact

# section -> its file in entries/, which is loaded by name because it imports this module
SECTION_MODULES = {
    "datasets": "dataset",
    "teachers": "teacher",
    "discretizers": "discretizer",
    "banks": "bank",
    "generators": "generator",
    "students": "student",
}


@dataclass
class Resolver:
    """Turns names into planned artefacts; ``names_in_progress`` is the chain being resolved."""

    config: Config
    plan: Plan
    resolved: dict[tuple[str, str], PlannedArtefact] = field(default_factory=dict)
    names_in_progress: list[str] = field(default_factory=list)

    def resolve_name(self, section: str, name: str, where: str = "") -> PlannedArtefact:
        """The planned artefact of a name in a section; ``where`` is the key that names it.

        Raises:
            RetortError: it does not exist, or it is made from itself.
        """
        entries = getattr(self.config, section)
        if name not in entries:
            hint = suggest_known(name, entries)
            raise RetortError(f"{where}: {section} has no '{name}'{hint}")
        if (section, name) not in self.resolved:
            label = f"{section}.{name}"
            if label in self.names_in_progress:
                chain = " -> ".join(
                    [*self.names_in_progress[self.names_in_progress.index(label) :], label]
                )
                raise RetortError(f"{label}: is made from itself ({chain}); break the cycle")
            self.names_in_progress.append(label)
            module = load_plugin("planning.entries", SECTION_MODULES[section])
            self.resolved[section, name] = self.plan.add_artefact(module.plan_artefact(self, name))
            self.names_in_progress.pop()
        return self.resolved[section, name]

    def resolve_warm_generator(self, name: str, seed: int, where: str) -> PlannedArtefact:
        """The generator for a student's seed: the one of that seed if the generator has seeds.

        Raises:
            RetortError: it does not exist, or has other seeds.
        """
        first = self.resolve_name("generators", name, where)
        seeds = self.config.generators[name].seeds
        if seeds is None or get_spec(first).seed == seed:
            return first
        if seed not in seeds:
            known = ", ".join(map(str, seeds))
            raise RetortError(f"{where}: '{name}' has seeds {known}, not {seed}; add it there")
        return self.plan.add_artefact(
            load_plugin("planning.entries", "generator").plan_artefact(self, name, seed)
        )

    def resolve_classifier(self, name: str, where: str) -> PlannedArtefact:
        """The teacher of a name, or the student that takes its place."""
        known = {**self.config.teachers, **self.config.students}
        if name not in known:
            raise RetortError(f"{where}: no teacher '{name}'{suggest_known(name, known)}")
        return self.resolve_name(
            "teachers" if name in self.config.teachers else "students", name, where
        )

    def list_seeds(self, student: str) -> tuple[int, ...]:
        """A student's seeds; the configuration's seed if it names none."""
        return self.config.students[student].seeds or (self.config.seed,)

    def make_common_spec(self) -> dict:
        """The part of the spec that every computed artefact has: seed and device."""
        return {"seed": self.config.seed, "device": self.config.device}
