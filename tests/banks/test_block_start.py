"""First iterates that an accelerator draws for a whole block, tried on a CPU that counts as one."""

import numpy as np
import pytest
import torch

from pipeline.banks.attack_start import draw_block_start
from pipeline.core.devices import placement
from pipeline.core.seeding import draw_device_uniforms, draw_uniforms
from pipeline.core.threat_models import L2, Linf
from tests.banks.test_builder import COUNT, maker
from tests.helpers.host_reads import noted


@pytest.fixture(autouse=True)
def accelerated(monkeypatch):
    """The CPU counts as an accelerator."""
    monkeypatch.setattr(placement, "is_accelerator", lambda device: True)


@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1])
def test_a_device_draws_the_hosts_numbers_to_the_last_bit(seed):
    rows = np.array([0, 1, 5, 2**40])
    expected = draw_uniforms(seed, rows, 3, 500)
    found = draw_device_uniforms(seed, rows, 3, 500, "cpu")
    assert np.array_equal(found.numpy(), expected)
    assert 0.45 < expected.mean() < 0.55


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_start_is_its_rows_own_within_the_ball_and_needs_no_waiting(norm):
    made = maker(norm=norm, eps=0.2, step=0.2, start_probability=0.5)
    q = torch.full((COUNT, 3, 4, 4), 0.5)
    found: list[str] = []
    with noted(found):
        whole = made.draw_start(q, range(COUNT))
    assert not found
    parts = [made.draw_start(q[:n], range(a, a + n)) for a, n in ((0, 5), (5, 1), (6, 6))]
    assert torch.equal(whole, torch.cat(parts))
    delta = whole - q
    moved = delta.flatten(1).abs().amax(1) > 0
    assert 0 < moved.sum() < COUNT
    size = delta.flatten(1).norm(dim=1) if norm == "l2" else delta.flatten(1).abs().amax(1)
    largest = torch.full_like(size[moved], 0.2)
    torch.testing.assert_close(size[moved], largest, atol=0.03 if norm == "linf" else 1e-5, rtol=0)


@pytest.mark.parametrize("threat_model", [L2(0.2), Linf(0.2)], ids=["l2", "linf"])
def test_a_start_counts_its_numbers_by_place(threat_model):
    """One says whether a row is noisy; then come an image's lengths and, in L2, its angles."""
    q = torch.full((6, 3, 2, 2), 0.5)
    draws = torch.from_numpy(draw_uniforms(9, np.arange(3, 9), 0, 1 + 2 * 12))
    first, second = draws[:, 1:13], draws[:, 13:]
    normal = (-2 * (1 - first).log()).sqrt() * (2 * torch.pi * second).cos()
    noise = (normal if isinstance(threat_model, L2) else first).float().view_as(q)
    expected = q.clone()
    for row in (draws[:, 0] < 0.5).nonzero().flatten():
        expected[row] = threat_model.place_noise(q, noise)[row]
    assert torch.equal(draw_block_start(q, range(3, 9), threat_model, 0.5, 9), expected)
    assert 0 < (expected != q).flatten(1).any(1).sum() < len(q)


def test_the_normal_noise_has_a_normals_moments():
    made = maker(norm="l2", eps=1e-3, step=1e-3, start_probability=1.0)
    q = torch.full((400, 3, 16, 16), 0.5, dtype=torch.float64)
    direction = (made.draw_start(q, range(400)) - q) / 1e-3 * (3 * 256) ** 0.5
    assert abs(direction.mean()) < 0.01
    assert abs(direction.std() - 1) < 0.01
    assert abs(direction.pow(4).mean() - 3) < 0.1
