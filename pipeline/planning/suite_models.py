"""Which models a suite evaluates or a figure shows: by kind, name or pattern, and a role."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pipeline.discovery import suggest_known
from pipeline.errors import RetortError
from pipeline.planning.compatibility.students import find_class_source, find_model_dataset
from pipeline.planning.plan import SEED_SEPARATOR, PlannedArtefact
from pipeline.planning.resolver import Resolver

KINDS = ("students", "teachers", "generators")
ALL = "all"
EXCLUDING = "!"


@dataclass(frozen=True)
class Candidate:
    """A model that a suite may evaluate, or a figure show.

    Attributes:
        label: its name in the evaluations' names.
        kind: one of ``KINDS``.
        names: what it may be called: its label, and its section's name.
        roles: the roles that it has for students, of a teacher.
        dataset: the data set whose classes it knows, and on which it is tested.
        artefact: the planned artefact; None for a teacher, which is resolved when it is chosen.
    """

    label: str
    kind: str
    names: tuple[str, ...]
    roles: frozenset[str]
    dataset: str
    artefact: PlannedArtefact | None


def list_candidates(
    resolver: Resolver,
    students: list[PlannedArtefact],
    warm_generators: list[tuple[PlannedArtefact, str]],
) -> list[Candidate]:
    """Every model that can be evaluated: students seed by seed, teachers, warm students."""
    config, found = resolver.config, []
    sections = [(name, seed) for name in config.students for seed in resolver.list_seeds(name)]
    for (section, seed), entry in zip(sections, students, strict=True):
        names = (entry.name, f"{section}-{seed}", section)  # equal sections share an artefact
        dataset = find_class_source(config, config.students[section])
        found.append(Candidate(entry.name, "students", names, frozenset(), dataset, entry))
    roles: dict[str, set[str]] = {name: set() for name in config.teachers}
    for student in config.students.values():
        for role, teacher in student.teachers.items():
            roles.setdefault(teacher, set()).add(role)
    for name, section in config.teachers.items():
        about = (frozenset(roles[name]), section.dataset, None)
        found.append(Candidate(name, "teachers", (name,), *about))
    for entry, teacher in warm_generators:
        label = f"{entry.name}-warm"
        names = (label, entry.name, entry.name.partition(SEED_SEPARATOR)[0])
        about = (frozenset(), find_model_dataset(config, teacher), entry)
        found.append(Candidate(label, "generators", names, *about))
    return found


def matches(candidate: Candidate, pattern: str) -> bool:
    """Whether a word means a model: its kind, name, a pattern, or a role."""
    if pattern == ALL:
        return True
    if pattern in KINDS:
        return candidate.kind == pattern
    named = any(fnmatchcase(name, pattern) for name in candidate.names)
    return named or pattern in candidate.roles


def choose_models(
    resolver: Resolver, suite: str, candidates: list[Candidate]
) -> dict[str, tuple[PlannedArtefact, str]]:
    """The models of a suite by label: the artefact, and the data set whose classes it knows.

    Raises:
        RetortError: as in ``choose_candidates``, or two have one label.
    """
    words = resolver.config.suites[suite].models
    chosen: dict[str, tuple[PlannedArtefact, str]] = {}
    for candidate in choose_candidates(f"suites.{suite}.models", words, candidates):
        if candidate.label in chosen and candidate.kind == "teachers":
            raise RetortError(
                f"teachers.{candidate.label}: a student of one seed is called "
                f"'{candidate.label}' too, so suite '{suite}' cannot tell them apart; rename one"
            )
        artefact = candidate.artefact or resolver.resolve_name("teachers", candidate.label)
        chosen[candidate.label] = artefact, candidate.dataset
    return chosen


def name_figure_models(words: Sequence[str], candidates: list[Candidate]) -> list[str]:
    """The models that the report's figures show, as `kind/name`.

    Raises:
        RetortError: as in ``choose_candidates``.
    """
    return [
        f"teacher/{candidate.label}"
        if candidate.artefact is None
        else f"{candidate.artefact.kind}/{candidate.names[1]}"  # its own, of a shared artefact too
        for candidate in choose_candidates("report.figure_models", words, candidates)
    ]


def choose_candidates(
    where: str, words: Sequence[str], candidates: list[Candidate]
) -> list[Candidate]:
    """The models that some words mean, in their order; ``where`` is the key of the words.

    Raises:
        RetortError: a word matches no model, or none is left.
    """
    for number, word in enumerate(words):
        check_word(f"{where}.{number}", word.removeprefix(EXCLUDING), candidates)
    wanted = [word for word in words if not word.startswith(EXCLUDING)]
    unwanted = [word.removeprefix(EXCLUDING) for word in words if word.startswith(EXCLUDING)]
    wanted = wanted or ([*KINDS] if unwanted else [])
    chosen = [
        candidate
        for candidate in candidates
        if any(matches(candidate, word) for word in wanted)
        and not any(matches(candidate, word) for word in unwanted)
    ]
    if unwanted and not chosen:
        raise RetortError(f"{where}: leaves out every model; drop a word that begins with '!'")
    return chosen


def check_word(where: str, word: str, candidates: list[Candidate]) -> None:
    """Raise RetortError if a word is no kind and matches no model."""
    if word in (ALL, *KINDS) or any(matches(candidate, word) for candidate in candidates):
        return
    known = {name for c in candidates for name in (c.names[-1], *c.roles)} | {*KINDS}
    raise RetortError(f"{where}: no model is called '{word}'{suggest_known(word, known)}")
