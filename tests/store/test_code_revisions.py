"""Imports, revisions and fingerprints of modules, in a small package."""

import pytest

from pipeline.store import code_revisions

FILES = {
    "base.py": "REVISION = 3\nVALUE = 1\n",
    "middle.py": "import torch\nfrom pipeline import base\n",
    "late.py": "def f():\n    from pipeline.middle import base\n",
    "aside.py": "REVISION = 7\n",
    "plugs/__init__.py": "from pipeline.base import VALUE\n",
    "plugs/one.py": "REVISION = 2\nCOMPONENTS = ('pipeline.base', 'pipeline.aside')\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of six files that replaces Retort's."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(code_revisions, "PACKAGE_ROOT", tmp_path)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    """Clears the caches, because files were changed."""
    for cached in (
        code_revisions.parse_module,
        code_revisions.list_imports,
        code_revisions.compute_import_closure,
        code_revisions.literal_of,
        code_revisions.compute_module_digest,
    ):
        cached.cache_clear()


@pytest.mark.usefixtures("package")
def test_imports_count_wherever_they_stand():
    assert code_revisions.list_imports("pipeline.middle") == {"pipeline.base"}
    assert code_revisions.list_imports("pipeline.late") == {"pipeline.middle"}
    assert code_revisions.compute_import_closure("pipeline.late") == (
        "pipeline.base",
        "pipeline.late",
        "pipeline.middle",
    )


@pytest.mark.usefixtures("package")
def test_revisions_are_those_of_what_is_listed_and_of_what_that_declares():
    assert code_revisions.collect_revisions("pipeline.base") == {"pipeline.base": 3}
    assert code_revisions.collect_revisions("pipeline.plugs.one", "pipeline.base") == {
        "pipeline.aside": 7,
        "pipeline.base": 3,
        "pipeline.plugs.one": 2,
    }
    assert code_revisions.read_revision("pipeline.middle") is None
    with pytest.raises(ValueError, match=r"pipeline\.middle: is listed .* no REVISION"):
        code_revisions.collect_revisions("pipeline.middle")


@pytest.mark.usefixtures("package")
def test_only_our_modules_have_a_path():
    assert code_revisions.find_module_file("pipeline.base").name == "base.py"
    assert code_revisions.find_module_file("pipeline.plugs").name == "__init__.py"
    for other in ("torch", "pipeline", "pipeline.base.VALUE", "pipeline.nothing"):
        assert code_revisions.find_module_file(other) is None


def test_only_our_modules_are_read():
    with pytest.raises(ValueError, match="torch: is no module of this package"):
        code_revisions.parse_module("torch")


def test_a_fingerprint_passes_over_comments_and_layout(package):
    before = code_revisions.compute_fingerprint("pipeline.base", "pipeline.late")
    late = code_revisions.compute_fingerprint("pipeline.late")
    (package / "base.py").write_text("# why\nREVISION   = 3\n\n\nVALUE = (1)  # a comment\n'why'\n")
    forget()
    assert code_revisions.compute_fingerprint("pipeline.late", "pipeline.base") == before
    (package / "base.py").write_text("REVISION = 3\nVALUE = 2\n")
    forget()
    assert code_revisions.compute_fingerprint("pipeline.base", "pipeline.late") != before
    assert code_revisions.compute_fingerprint("pipeline.late") == late


def test_a_stage_of_ours_imports_what_it_is_known_to():
    found = code_revisions.compute_import_closure("pipeline.stages.distill")
    assert {"pipeline.training.loop", "pipeline.data.batches"} <= set(found)
    assert not any(name.startswith("pipeline.objectives.rslad") for name in found)
    declared = code_revisions.collect_revisions("pipeline.attacks.pgd").keys()
    assert declared >= {"pipeline.core.attack_protocol", "pipeline.core.pgd"}
