"""The components that keys list, against what the stages and plug-ins import."""

import pytest

from pipeline.discovery import get_package_name, list_plugin_names, load_plugin, load_plugins
from pipeline.planning import components
from pipeline.store.artefact import STAGES_BY_KIND
from pipeline.store.code_revisions import (
    compute_import_closure,
    find_module_file,
    literal_of,
    read_revision,
    with_declared,
)

PLUGINS = ("architectures", "attacks", "datasets", "generator_losses", "objectives")
ROOMS_OF_PLUGINS = tuple(f"{get_package_name(folder)}." for folder in PLUGINS)


def reached(*modules: str) -> set[str]:
    """Modules with a REVISION that some modules import, directly or not."""
    return {
        module for module in compute_import_closure(*modules) if read_revision(module) is not None
    }


def listed(kind: str) -> set[str]:
    """Every module that a kind lists, whatever its section asks for."""
    entries = load_plugin("planning.entries", kind)
    names = ("COMPONENTS", "CHECKPOINT", "OPEN_CLIP")
    always = [module for name in names for module in getattr(entries, name, ())]
    asked = [module for modules in getattr(entries, "OPTIONAL", {}).values() for module in modules]
    return set(with_declared([*always, *asked]))


@pytest.mark.parametrize("kind", STAGES_BY_KIND)
def test_a_kind_lists_or_exempts_what_its_stage_imports(kind):
    exempt = load_plugin("planning.entries", kind).EXEMPT
    found = reached(f"pipeline.stages.{STAGES_BY_KIND[kind]}")
    missing = found - listed(kind) - exempt.keys()
    assert not missing, (
        f"planning/entries/{kind}.py: stage {STAGES_BY_KIND[kind]} imports {sorted(missing)}: list "
        f"them "
        "under COMPONENTS or OPTIONAL, or under EXEMPT with the reason"
    )
    assert not exempt.keys() & listed(kind), "both listed and exempted"
    assert exempt.keys() <= found, "exempted, but not imported any more"
    assert all(exempt.values())


@pytest.mark.parametrize("kind", STAGES_BY_KIND)
def test_what_a_kind_lists_is_there_and_has_a_revision(kind):
    stages = {f"pipeline.stages.{name}" for name in list_plugin_names("stages")}
    for module in listed(kind):
        assert find_module_file(module), f"{module}: there is no such module"
        assert read_revision(module) is not None, f"{module}: has no REVISION"
    own = reached(f"pipeline.stages.{STAGES_BY_KIND[kind]}") | set(
        with_declared(m for m in listed(kind) if m.startswith(ROOMS_OF_PLUGINS))
    )
    reason = "is listed, but neither the stage nor a plug-in imports it"
    assert listed(kind) - stages <= own, f"{sorted(listed(kind) - stages - own)} {reason}"


@pytest.mark.parametrize("folder", PLUGINS)
def test_a_plug_in_declares_what_it_imports(folder):
    for module in load_plugins(folder):
        name = module.__name__
        declared = literal_of(name, "COMPONENTS") or ()
        needed = reached(name) - {name}
        assert set(declared) == needed, (
            f"{find_module_file(name)}: COMPONENTS differ from what is imported: "
            f"{sorted(set(declared) ^ needed)}"
        )


def test_reasons_are_shared_where_they_are_the_same():
    assert components.IN_DATASET_KEY
    assert with_declared(["pipeline.attacks.pgd"]) == (
        "pipeline.attacks.pgd",
        *with_declared(literal_of("pipeline.attacks.pgd", "COMPONENTS")),
    )
