"""What an attempt's record says of the machine."""

import json

import torch

from pipeline.core.devices.bf16_products import has_bf16_instructions
from pipeline.store.artefact import Job
from pipeline.store.attempt_cost import record_attempt_cost


def test_a_record_names_the_instructions_that_numbers_depend_on(tmp_path):
    with record_attempt_cost(Job(tmp_path, "student", "s", "k", {}, {}, {}), "run"):
        pass
    (path,) = (tmp_path / "attempts").glob("timing-run-*.json")
    capability = torch.backends.cpu.get_cpu_capability()
    expected = f"{capability}, bf16" if has_bf16_instructions() else capability
    assert json.loads(path.read_text())["instructions"] == expected
