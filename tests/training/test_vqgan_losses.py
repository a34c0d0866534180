"""LPIPS and the discriminator: values by hand, each network's gradient, and a real training."""

import copy
import json
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.core.batch import Batch, Roles
from pipeline.core.lpips import BLOCK_CHANNELS, LPIPS
from pipeline.core.seeding import make_generator
from pipeline.datasets import cifar10
from pipeline.errors import RetortError
from pipeline.models.vqgan import VQGAN, ReconstructionObjective, VQGANArchitecture
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import write_job_files
from pipeline.stages import prepare_data, train_discretizer
from pipeline.store.artefact import Job, compute_sha256, open_artefact, read_job, write_manifest
from pipeline.training.vqgan_losses import (
    AdversarialLoss,
    PerceptualLoss,
    VQGANObjective,
    make_discriminator,
)
from tests.models.test_vqgan import TINY
from tests.planning.test_plan import edited

EXACT = {"atol": 1e-9, "rtol": 0}


def lpips_at_random() -> LPIPS:
    """LPIPS with weights that keep features non-zero and distances positive."""
    torch.manual_seed(1)
    network = LPIPS()
    for lin in network.lins:
        lin.weight.data.uniform_(0, 1)
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def lpips() -> LPIPS:
    return lpips_at_random()


@pytest.fixture
def model() -> VQGAN:
    torch.manual_seed(0)
    model = VQGAN(VQGANArchitecture(**{**vars(TINY), "resolution": 32})).double()
    model.codebook.data.normal_()
    return model


@pytest.fixture
def judge() -> nn.Module:
    torch.manual_seed(2)
    return make_discriminator(3, 8, 2).double()


def batch(progress: float = 0.5, n: int = 4) -> Batch:
    x = torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Batch(x, None, torch.arange(n), {}, progress, 0, make_generator(0, 0))


def versus(judge: nn.Module, rule: str = "adaptive", perceptual: PerceptualLoss | None = None):
    base = ReconstructionObjective(16, revive_until=0.0).double()
    base.steps += 1  # the codebook is neither initialised nor revived
    return VQGANObjective(base, perceptual, AdversarialLoss(0.8, 0.3, rule), judge).double()


def test_lpips_is_taming_s(lpips):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the module compares strings with `is`
        from taming.modules.losses import lpips as theirs
    other = theirs.LPIPS.__new__(theirs.LPIPS)  # its constructor downloads
    nn.Module.__init__(other)
    other.scaling_layer, other.chns = theirs.ScalingLayer(), list(BLOCK_CHANNELS)
    features, cuts = lpips.features, (0, 4, 9, 16, 23, 30)

    def net(x: torch.Tensor) -> list[torch.Tensor]:
        return [features[:stop](x) for stop in cuts[1:]]

    other.net = net
    for depth, lin in enumerate(lpips.lins):
        own = theirs.NetLinLayer(BLOCK_CHANNELS[depth])
        own.model[0].weight.data = lin.weight.data
        setattr(other, f"lin{depth}", own)
    x, y = (torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(i)) for i in (3, 4))
    found = lpips(x, y)
    torch.testing.assert_close(found, other(2 * x - 1, 2 * y - 1).flatten(), rtol=1e-5, atol=1e-7)
    assert found.shape == (2,)
    assert torch.equal(lpips(x, x), torch.zeros(2))
    assert (found > 1e-4).all()


@pytest.mark.parametrize("rule", ["adaptive", "constant"])
def test_terms_and_gradients_by_hand(model, judge, rule):
    objective, data = versus(judge, rule), batch()
    before = [p.clone() for p in judge.parameters()]
    own, others = list(model.parameters()), list(judge.parameters())
    steps = objective(Roles(model), data)
    made = next(steps)
    ours = torch.autograd.grad(
        sum(v.mean() for v in made.values()), [*own, *others], allow_unused=True
    )
    judged = next(steps)
    theirs = torch.autograd.grad(judged["discriminator"].mean(), [*own, *others], allow_unused=True)
    assert next(steps, None) is None

    image = model(data.x)
    opinion = judge(2 * image - 1).flatten(1).mean(1)
    seen = (image - data.x).abs().flatten(1).mean(1)
    last = model.decoder.conv_out.weight
    lengths = [
        torch.autograd.grad(v.mean(), last, retain_graph=True)[0].norm() for v in (seen, -opinion)
    ]
    factor = 0.8 * (lengths[0] / (lengths[1] + 1e-4)).item() if rule == "adaptive" else 0.8
    torch.testing.assert_close(made["reconstruction"], seen, **EXACT)
    torch.testing.assert_close(made["adversarial"], -factor * opinion, **EXACT)
    real, fake = (judge(2 * v - 1).flatten(1) for v in (data.x, image.detach()))
    hinge = ((1 - real).clamp(min=0) + (1 + fake).clamp(min=0)).mean(1) / 2
    torch.testing.assert_close(judged["discriminator"], hinge, **EXACT)

    z = model.encode(data.x)
    codes = model.embed_tokens(model.find_nearest_tokens(z))
    codebook = ((z.detach() - codes) ** 2 + 0.25 * (z - codes.detach()) ** 2).flatten(1).mean(1)
    total = (seen + codebook - factor * opinion).mean()
    wanted = torch.autograd.grad(total, own, allow_unused=True)
    for one, two in zip(ours[: len(own)], wanted, strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(one, two, **EXACT)
    assert all(grad is None for grad in ours[len(own) :])
    assert all(grad is None for grad in theirs[: len(own)])
    wanted = torch.autograd.grad(hinge.mean(), others)
    for one, two in zip(theirs[len(own) :], wanted, strict=True):
        torch.testing.assert_close(one, two, **EXACT)
    assert max(grad.abs().max() for grad in wanted) > 1e-6
    assert all(torch.equal(p, b) for p, b in zip(judge.parameters(), before, strict=True))
    assert all(p.requires_grad for p in judge.parameters())


def test_each_player_s_step_helps_it(model, judge):
    objective, data = versus(judge, "constant"), batch()
    judge.eval()
    for _ in range(3):
        made, judged = list(objective(Roles(model), data))
        one = torch.autograd.grad(made["adversarial"].mean(), list(model.decoder.parameters()))
        other = torch.autograd.grad(judged["discriminator"].mean(), list(judge.parameters()))
        with torch.no_grad():
            image = model(data.x)
            before = objective.judge_images(image).mean()
            for p, grad in zip(model.decoder.parameters(), one, strict=True):
                p -= 1e-3 * grad
            assert objective.judge_images(model(data.x)).mean() > before
            for p, grad in zip(judge.parameters(), other, strict=True):
                p -= 1e-3 * grad
            real, fake = objective.judge_patches(data.x), objective.judge_patches(image)
            hinge = ((1 - real).relu() + (1 + fake).relu()).mean() / 2
        assert hinge < judged["discriminator"].mean()


def test_a_saved_game_goes_on_bit_for_bit(model):
    def played(network: VQGAN, objective: VQGANObjective, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        for terms in objective(Roles(network), batch()):
            sum(term.mean() for term in terms.values()).backward()
        optimizer.step()

    def players(network: VQGAN, seed: int) -> tuple:
        torch.manual_seed(seed)
        objective = versus(make_discriminator(3, 8, 2))
        learnt = [*network.parameters(), *objective.parameters()]
        return network, objective, torch.optim.Adam(learnt, lr=1e-3)

    one, other = players(model, 5), players(copy.deepcopy(model), 6)
    start = [p.clone() for p in one[1].parameters()]
    for _ in range(2):
        played(*one)
    assert all((p != s).any() for p, s in zip(one[1].parameters(), start, strict=True))
    for taker, giver in zip(other, one, strict=True):
        taker.load_state_dict(copy.deepcopy(giver.state_dict()))
    for game in (one, other):
        played(*game)
    for name, value in one[1].state_dict().items():
        assert torch.equal(other[1].state_dict()[name], value), name
    for name, value in one[0].state_dict().items():
        assert torch.equal(other[0].state_dict()[name], value), name


def test_before_its_start_there_is_no_discriminator(model, judge):
    (terms,) = versus(judge)(Roles(model), batch(0.2))
    assert torch.equal(terms["adversarial"], torch.zeros(4, dtype=torch.float64))
    assert torch.equal(terms["discriminator"], torch.zeros(4, dtype=torch.float64))


def test_lpips_counts_with_its_weight_and_is_in_no_checkpoint(model, lpips):
    model.float()
    base = ReconstructionObjective(16, revive_until=0.0)
    base.steps += 1
    objective = VQGANObjective(base, PerceptualLoss(lpips, 0.5), None, None)
    data = batch()
    data = Batch(data.x.float(), None, data.index, {}, 0.5, 0, data.rng)
    objective.prepare(Roles(model), data)
    (terms,) = objective(Roles(model), data)
    torch.testing.assert_close(terms["perceptual"], 0.5 * lpips(data.x, model(data.x)))
    (grad,) = torch.autograd.grad(terms["perceptual"].sum(), model.decoder.conv_out.weight)
    assert grad.abs().max() > 0
    assert set(objective.state_dict()) == {"base.usage", "base.steps"}
    assert list(objective.parameters()) == []


@pytest.fixture
def made(tmp_path, monkeypatch, lpips):
    """A function that trains a discretizer with additional losses and returns its job."""
    images = np.random.default_rng(0).integers(0, 256, (700, 3, 32, 32), dtype=np.uint8)
    labels = np.random.default_rng(1).integers(0, 10, 700)
    monkeypatch.setattr(cifar10, "load", lambda split, cache: (images, labels))

    def make(**section: object) -> Job:
        raw = edited("discretizers.vq", {**SECTION, **section})
        raw["datasets"]["tiny"] |= {"train": 32, "test": 8}
        raw = {k: raw[k] for k in ("seed", "run", "recipes", "datasets", "discretizers")}
        plan = make_plan_from_dict({**raw, "store": str(tmp_path / "store")})
        write_job_files(plan)
        data = read_job(plan.folder_path(plan.refs_by_name["dataset", "tiny"]))
        write_manifest(data, prepare_data.run(data))
        job = read_job(plan.folder_path(plan.refs_by_name["discretizer", "vq"]))
        write_manifest(job, train_discretizer.run(job))
        return job

    return make


RECIPE = {"epochs": 2, "batch": 8, "optimizer": "adamw", "lr": 1e-3, "augment": "none"}
SECTION = {"dataset": "tiny", "n_codes": 16, "recipe": RECIPE}


def files_of(folder, lpips: LPIPS) -> dict:
    """The two files in the form of torchvision and LPIPS, and the section that names them."""
    vgg = {f"features.{n}": v for n, v in lpips.features.state_dict().items()}
    torch.save({**vgg, "classifier.0.bias": torch.zeros(3)}, folder / "vgg.pth")
    lins = {f"lin{i}.model.1.weight": lin.weight for i, lin in enumerate(lpips.lins)}
    torch.save({name: value.data for name, value in lins.items()}, folder / "lin.pth")
    paths = {part: folder / f"{part}.pth" for part in ("vgg", "lin")}
    return {part: {"path": str(p), "sha256": compute_sha256(p)} for part, p in paths.items()}


def test_a_vqgan_trains_with_both(made, tmp_path, lpips):
    about = {"width": 8, "layers": 2, "start": 0.5}
    job = made(perceptual=files_of(tmp_path, lpips), adversarial=about)
    first, second = (
        torch.tensor([e[n] for n in ("perceptual", "adversarial", "discriminator")])
        for e in epochs_of(job)
    )
    assert first[0] > 0
    assert torch.equal(first[1:], torch.zeros(2))
    assert (second != 0).all()
    assert second[2] > 0
    artefact = open_artefact(job.folder)
    assert set(artefact.manifest.files) == {"history.json", "model.safetensors"}
    assert artefact.manifest.spec["adversarial"]["rule"] == "adaptive"


def epochs_of(job: Job) -> list[dict]:
    """The records of a training."""
    return json.loads((job.folder / "history.json").read_text())["epochs"]


def test_files_that_are_not_lpips_s_are_named(made, tmp_path, lpips):
    files = files_of(tmp_path, lpips)
    swapped = {"vgg": files["lin"], "lin": files["vgg"]}
    with pytest.raises(RetortError, match=r"lin.pth: 'features.0.weight' is missing, 26 of 26 in"):
        made(perceptual=swapped)
    gone = {**files, "lin": {**files["lin"], "path": str(tmp_path / "nowhere.pth")}}
    with pytest.raises(RetortError, match="nowhere.pth: no such checkpoint"):
        made(perceptual=gone)
