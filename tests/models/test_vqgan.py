"""The VQGAN: tokens, gradients, files, and the objective that trains it."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from taming.modules.vqvae.quantize import VectorQuantizer

from pipeline.core.batch import Batch, Roles
from pipeline.core.seeding import make_generator
from pipeline.errors import RetortError
from pipeline.models import vqgan
from pipeline.models.vqgan import (
    VQGAN,
    ReconstructionObjective,
    VQGANArchitecture,
    compute_psnr,
    load,
    measure_codebook_usage,
    save,
)

TINY = VQGANArchitecture(
    ch=32,
    ch_mult=(1,),
    num_res_blocks=0,
    attn_resolutions=(),
    z_channels=3,
    embed_dim=2,
    n_codes=16,
    resolution=16,
    unshuffle=2,
    mid_attention=False,
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = VQGAN(TINY)
    model.codebook.data.normal_()
    return model


@pytest.fixture
def x():
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def batch(x, progress, step=0):
    return Batch(x, None, torch.arange(len(x)), {}, progress, 0, make_generator(0, step))


def trained(model, objective, x, steps):
    """Losses of some plain steps, each with its own rng."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for step in steps:
        (terms,) = objective(Roles(model), batch(x, step / 20, step))
        loss = sum(term.mean() for term in terms.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_shapes_and_ranges(model, x):
    tokens = model.encode_to_tokens(x)
    assert tokens.shape == (4, 8, 8)
    assert tokens.dtype == torch.int64
    assert model.encode(x).shape == (4, 2, 8, 8)
    q = model.reconstruct(x)
    assert q.shape == x.shape
    assert q.min() >= 0
    assert q.max() <= 1
    assert torch.equal(model.decode_tokens(tokens), q)
    assert torch.equal(model(x), q)


def test_keys_are_those_of_latent_diffusion():
    with torch.device("meta"):
        weights = VQGAN(VQGANArchitecture()).state_dict()
    assert len(weights) == 299
    assert sum(v.numel() for v in weights.values()) == pytest.approx(67.7e6, rel=1e-3)
    parts = {"encoder", "decoder", "quantize", "quant_conv", "post_quant_conv"}
    assert {name.split(".")[0] for name in weights} == parts
    assert weights["quantize.embedding.weight"].shape == (16384, 4)
    assert weights["encoder.conv_in.weight"].shape == (128, 3, 3, 3)
    assert "encoder.mid.attn_1.q.weight" in weights
    assert "decoder.up.3.upsample.conv.weight" in weights


def test_nothing_is_printed(capsys):
    VQGAN(TINY)
    assert capsys.readouterr().out == ""


@settings(deadline=None, max_examples=25)
@given(
    rows=st.integers(1, 70),
    codes=st.integers(1, 40),
    block=st.integers(1, 700),
    seed=st.integers(0, 1000),
)
def test_indices_are_those_of_taming(rows, codes, block, seed):
    rng = torch.Generator().manual_seed(seed)
    theirs = VectorQuantizer(codes, 4, beta=0.25)
    theirs.embedding.weight.data = torch.randn(codes, 4, generator=rng).round()
    z = torch.randn(1, 4, rows, 1, generator=rng).round()  # small integers: many exact ties
    expected = theirs(z)[2][2].flatten()
    flat = z.permute(0, 2, 3, 1).reshape(-1, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vqgan, "DISTANCES_PER_BLOCK", block)
        found = vqgan.find_nearest_codes(flat, theirs.embedding.weight.detach())
    assert torch.equal(found, expected)


def test_gradient_passes_quantiser_and_clamp_straight_through(model, x):
    x.requires_grad_()
    model.decoder.conv_out.weight.data *= 100  # drives pixels far out of [0,1]
    saturated = model(x)
    assert ((saturated == 0) | (saturated == 1)).float().mean() > 0.5
    assert saturated.min() == 0
    assert saturated.max() == 1
    (grad,) = torch.autograd.grad(saturated.sum(), x)
    assert (grad != 0).float().mean() > 0.9
    soft, hard = torch.zeros(3, requires_grad=True), torch.tensor([1.0, 2.0, 3.0])
    result = vqgan.apply_straight_through(soft, hard)
    assert torch.equal(result, hard)
    assert torch.equal(torch.autograd.grad(result.sum(), soft)[0], torch.ones(3))


def test_saved_model_is_the_model(model, x, tmp_path):
    save(model, tmp_path / "vq.safetensors")
    loaded = load(tmp_path / "vq.safetensors")
    assert loaded.architecture == TINY
    assert not loaded.training
    assert torch.equal(loaded.reconstruct(x), model.eval().reconstruct(x))


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"w": torch.zeros(1)}, path, metadata={"retort": '{"kind": "classifier"}'})
    with pytest.raises(RetortError, match="holds a classifier, not a discretizer"):
        load(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"ch": 48}, "ch is 48; make it a multiple of 32"), ({"resolution": 60}, "no multiple of 8")],
)
def test_impossible_shapes_are_refused(fields, message):
    with pytest.raises(RetortError, match=message):
        VQGANArchitecture(**fields)


def test_metrics_by_hand():
    x = torch.zeros(3, 1, 2, 2)
    y = torch.stack([torch.full((1, 2, 2), v) for v in (0.1, 1.0, 0.0)])
    torch.testing.assert_close(compute_psnr(x, y), torch.tensor([20.0, 0.0, 100.0]))
    assert measure_codebook_usage(torch.tensor([[0, 3], [3, 3]]), 8) == 0.25


def test_warm_up_does_not_quantise(model, x):
    objective, before = ReconstructionObjective(16), model.codebook.clone()
    (terms,) = objective(Roles(model), batch(x, 0.05))
    plain = (model.decode(model.encode(x)) - x).abs().flatten(1).mean(1)
    torch.testing.assert_close(terms["reconstruction"], plain)
    assert torch.equal(terms["codebook"], torch.zeros(4))
    assert torch.equal(model.codebook, before)
    assert int(objective.steps) == 0


def test_codebook_starts_as_encoder_outputs(model, x):
    objective = ReconstructionObjective(16, codebook_weight=2.0, beta=0.25)
    (terms,) = objective(Roles(model), batch(x, 0.1))
    z = model.encode(x).detach()
    flat = z.permute(0, 2, 3, 1).reshape(-1, 2)
    exact = "donot_use_mm_for_euclid_dist"  # a product of matrices would lose digits
    distances = torch.cdist(model.codebook.detach(), flat, compute_mode=exact)
    assert distances.min(1).values.max() < 1e-6
    assert len(model.codebook.unique(dim=0)) == 16
    gap = (z - model.embed_tokens(model.encode_to_tokens(x)).detach()) ** 2
    torch.testing.assert_close(terms["codebook"], 2 * 1.25 * gap.flatten(1).mean(1))
    assert terms["reconstruction"].shape == (4,)
    assert int(objective.usage.sum()) == 4 * 64


def test_dead_codes_are_revived_until_the_end(model, x):
    objective = ReconstructionObjective(16, revive_every=2, revive_until=0.8)
    trained(model, objective, x, [2, 3])
    model.codebook.data[5] = 1000.0
    objective.usage[5] = 0
    late = copy.deepcopy((model, objective))
    trained(model, objective, x, [4])
    assert model.codebook[5].abs().max() < 100
    trained(*late, x, [16])
    assert late[0].codebook[5].min() > 900


def test_more_codes_than_latents_can_still_be_drawn():
    z = torch.arange(6.0).view(1, 2, 1, 3)
    drawn = vqgan.draw_latents(z, 7, make_generator(0))
    assert {tuple(row) for row in drawn.tolist()} == {(0, 3), (1, 4), (2, 5)}
    assert vqgan.draw_latents(z, 0, make_generator(0)).shape == (0, 2)


def test_training_lowers_the_loss_and_resumes_bit_for_bit(model, x):
    objective = ReconstructionObjective(16, revive_every=3)
    parts = copy.deepcopy(model), ReconstructionObjective(16, revive_every=3)
    losses = trained(model, objective, x, range(20))
    assert losses[-1] < losses[0]
    trained(*parts, x, range(9))
    resumed = VQGAN(TINY), ReconstructionObjective(16, revive_every=3)
    for fresh, old in zip(resumed, parts, strict=True):
        fresh.load_state_dict(old.state_dict())
    for pair in (parts, resumed):
        trained(*pair, x, range(9, 15))
    for name, value in parts[0].state_dict().items():
        assert torch.equal(resumed[0].state_dict()[name], value), name
    for name, value in parts[1].state_dict().items():
        assert torch.equal(resumed[1].state_dict()[name], value), name
