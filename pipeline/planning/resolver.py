"""Turning the configuration's names into entries, each once, with cycles found."""

from dataclasses import dataclass, field

from pipeline.config.reader import Config
from pipeline.config.specs import spec_of
from pipeline.discovery import plugin, suggestion
from pipeline.errors import RetortError
from pipeline.planning.plan import Entry, Plan

SECTIONS = {  # section -> its file in entries/, found by name: those files import this one
    "datasets": "dataset",
    "teachers": "teacher",
    "discretizers": "discretizer",
    "banks": "bank",
    "generators": "generator",
    "students": "student",
}


@dataclass
class Resolver:
    """Turns names into entries, each once; ``path`` is the chain of names being resolved."""

    config: Config
    plan: Plan
    known: dict[tuple[str, str], Entry] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)

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
            kind = plugin("planning.entries", SECTIONS[section])
            self.known[section, name] = self.plan.add(kind.entry(self, name))
            self.path.pop()
        return self.known[section, name]

    def warm_up(self, name: str, seed: int, seen_from: str) -> Entry:
        """A generator for a student of some seed: the one of that seed where it has several.

        Raises:
            RetortError: it does not exist, or has other seeds.
        """
        first = self.get("generators", name, seen_from)
        seeds = self.config.generators[name].seeds
        if seeds is None or spec_of(first).seed == seed:
            return first
        if seed not in seeds:
            known = ", ".join(map(str, seeds))
            raise RetortError(f"{seen_from}: '{name}' has seeds {known}, not {seed}; add it there")
        return self.plan.add(plugin("planning.entries", "generator").entry(self, name, seed))

    def classifier(self, name: str, where: str) -> Entry:
        """A teacher, or a student of ours in its place."""
        known = {**self.config.teachers, **self.config.students}
        if name not in known:
            raise RetortError(f"{where}: no teacher '{name}'{suggestion(name, known)}")
        return self.get("teachers" if name in self.config.teachers else "students", name, where)

    def seeds(self, student: str) -> tuple[int, ...]:
        """A student's seeds; the experiment's own if it names none."""
        return self.config.students[student].seeds or (self.config.seed,)

    def common(self) -> dict:
        """What every computed artefact's key holds."""
        return {"seed": self.config.seed, "device": self.config.device}
