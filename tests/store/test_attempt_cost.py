"""What an attempt's record says of the machine."""

import json

import pytest
import torch

from pipeline.core.devices import bf16_products
from pipeline.store.artefact import Job
from pipeline.store.attempt_cost import record_attempt_cost


@pytest.mark.parametrize("has_bf16", [True, False])
def test_a_record_names_the_instructions_and_how_bf16_is_computed(has_bf16, tmp_path, monkeypatch):
    monkeypatch.setattr(bf16_products, "has_bf16_instructions", lambda: has_bf16)
    with record_attempt_cost(Job(tmp_path, "student", "s", "k", {}, {}, {}), "run"):
        pass
    (path,) = (tmp_path / "attempts").glob("timing-run-*.json")
    capability = torch.backends.cpu.get_cpu_capability()
    expected = capability if has_bf16 else f"{capability}, bf16 widened"
    assert json.loads(path.read_text())["instructions"] == expected
