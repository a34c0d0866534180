"""What the pages on methods list is what the objectives declare."""

import re

from pipeline.core.batch import needs_whole_batch
from pipeline.discovery import list_builtin_names, load_plugin
from tests.helpers.graph import ROOT

PAGE = ROOT / "docs" / "methods" / "index.md"


def test_methods_that_look_at_the_whole_batch_are_listed():
    _, listed = PAGE.read_text().split("look at the complete batch:")
    listed, _ = listed.split(". Several GPUs", 1)
    names = list_builtin_names("objectives")
    declared = {
        name for name in names if needs_whole_batch(load_plugin("objectives", name).Objective)
    }
    assert set(re.findall(r"`(\w+)`", listed)) == declared
