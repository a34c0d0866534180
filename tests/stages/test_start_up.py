"""What a job imports before it begins: torch, and nothing else that takes a second."""

import json
import subprocess
import sys

from pipeline.store.artefact import STAGES_BY_KIND
from tests.helpers.graph import ROOT

SLOW = ("foolbox", "open_clip", "scipy.stats", "timm", "torch._dynamo", "torchvision")


def test_importing_the_stages_imports_nothing_slow():
    imports = "; ".join(f"import pipeline.stages.{name}" for name in STAGES_BY_KIND.values())
    look = (
        f"import json, sys; {imports}; print(json.dumps([m for m in {SLOW} if m in sys.modules]))"
    )
    command = [sys.executable, "-c", look]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == []
