"""No step of a training on an accelerator waits for it: counted on a CPU that counts as one."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from pipeline.banks.batches import BankSource, ViewReplay
from pipeline.banks.stored_views import ImageSet, StoredViews
from pipeline.core.augment import resized_crop
from pipeline.core.devices import placement
from pipeline.core.pairing import (
    count_clashes,
    pair_different_labels,
    pair_different_rankings,
    pair_distant_outputs,
)
from pipeline.core.seeding import derive_seed, draw_host_seed
from pipeline.discovery import list_plugin_names
from pipeline.errors import RetortError
from pipeline.models.classifier import initialise_classifier
from pipeline.training import divergence, loop
from tests.helpers import ranked
from tests.helpers.host_reads import noted
from tests.helpers.recorded import record_steps
from tests.training.test_loop import run, weights

OBJECTIVES = list_plugin_names("objectives")
OTHERS = {
    "parts": ranked.Case("rslad", {"accumulate": 2, "clip_grad": 0.1, "ema": 0.5}),
    "adamw": ranked.Case("trades", {"optimizer": "adamw", "bf16": "both", "epochs": 2}),
    "mixed": ranked.Case("natural", {"mixup": 0.2, "augment": "crop_flip"}),
    "igdm": ranked.cases()["igdm"],
    "erased": ranked.Case("natural", {"erase": 0.5, "cutmix": 1.0, "smoothing": 0.1}),
    "operations": ranked.Case("natural", {"rand_augment": 9, "augment": "flip"}),
    "generated": ranked.cases()["generated"],
}

# What docs/howto/gpus.md lists: the matrix of torchvision's turn, and operations image by image.
ALLOWED = {"dfhl_rs": "tensor at core/augment.py"}
ALLOWED_IN_BATCHES = {"operations": "core/augment.py", "replayed": "numpy at banks/stored_views.py"}

BANK_NEEDS = {"bank": ("x_adv",), "paired": ("x_adv", "paired"), "replayed": ("x_adv",)}


@pytest.fixture
def accelerated(monkeypatch) -> None:
    """The loop and all below it take the CPU for an accelerator."""
    monkeypatch.setattr(placement, "is_accelerator", lambda device: True)


@pytest.mark.parametrize(
    "case",
    [*map(ranked.Case, OBJECTIVES), *OTHERS.values()],
    ids=[*OBJECTIVES, *OTHERS],
)
def test_no_step_waits_for_the_device(case, accelerated, tmp_path, monkeypatch):
    found, steps, update = [], [], loop.take_optimizer_step

    def watched(training, batch):
        with noted(found):
            update(training, batch)
        steps.append(batch.progress)

    monkeypatch.setattr(loop, "take_optimizer_step", watched)
    ranked.trained(case, tmp_path, 1)
    assert steps
    allowed = ALLOWED.get(case.objective, "nothing")
    assert not [place for place in found if not place.startswith(allowed)]


@pytest.mark.parametrize("name", ["adaad", "darwin", "dat"])
def test_no_step_from_graphs_waits_for_the_device(name, tmp_path, monkeypatch):
    tracer, passes = record_steps(monkeypatch)
    found, steps, update = [], [], loop.take_optimizer_step

    def watched(training, batch):
        reads = []
        with noted(reads):
            update(training, batch)
        found.extend(reads if len(steps) >= 3 else [])  # captures themselves may wait
        steps.append(batch.progress)

    monkeypatch.setattr(loop, "take_optimizer_step", watched)
    case = ranked.Case(name, {"epochs": 2, "batch": 6, "compile": "graph"})
    ranked.trained(case, tmp_path, 1)
    assert len(steps) == 8
    assert tracer.replays >= 7
    assert passes.forwards >= 7
    assert not found


def replayed(source: BankSource) -> BankSource:
    """The same with views that are flipped, cropped and mixed."""
    views = StoredViews(0, 2, "crop_flip", 0, 0.2, 1.0)
    rows = np.arange(ranked.ROWS)
    held = source.stored_fields["x_adv"]
    sides = [
        ImageSet(x, rows, np.array([0, ranked.ROWS])) for x in (source.dataset_source.images, held)
    ]
    fields = {**source.stored_fields, "t_clean": torch.randn(ranked.ROWS, 2, ranked.CLASSES)}
    fields["t_adv"] = fields["t_clean"]
    mixing = replace(source.dataset_source.schedule.mixing, classes=ranked.CLASSES)
    schedule = replace(source.dataset_source.schedule, mixing=mixing)
    own = replace(source.dataset_source, schedule=schedule)
    return BankSource(own, fields, replay=ViewReplay(views, tuple(sides)))


@pytest.mark.parametrize(
    "name",
    ["held", "generated", "bank", "paired", "replayed", "mixed", "erased", "operations"],
)
def test_no_batch_waits_for_the_device(name, accelerated, tmp_path):
    changes = OTHERS[name].recipe if name in OTHERS else {}
    recipe = ranked.Recipe(**{**ranked.SMALL, **changes})
    needs = BANK_NEEDS.get(name, ())
    case = ranked.Case("natural", source="generated" if name == "generated" else "held")
    source = ranked.source_of(case, recipe, needs, tmp_path)
    source = replayed(source) if name == "replayed" else source
    roles = ranked.Roles(ranked.network(0), {"natural": ranked.teacher(1)})
    batches, found = source.iterate_batches(0, 0, roles), []
    next(batches)  # what is done once an epoch may wait
    with noted(found):
        next(batches)
    allowed = ALLOWED_IN_BATCHES.get(name, "nothing")
    assert not [place for place in found if allowed not in place]
    assert bool(found) == (name in ALLOWED_IN_BATCHES)


def test_pairs_by_more_than_the_likeliest_class_read_the_classes(accelerated):
    p, rng = torch.rand(8, 5).softmax(1), torch.Generator().manual_seed(0)
    for pair in (partial(pair_different_rankings, p, 2), partial(pair_distant_outputs, p)):
        found = []
        with noted(found):
            pair(rng)
        assert found and all("core/pairing.py" in place for place in found)


@pytest.mark.parametrize(
    "changes", [{"ema": 0.9}, {"optimizer": "adamw", "accumulate": 2}, {"clip_grad": 1.0}], ids=str
)
def test_terms_that_are_read_late_are_the_same_to_the_last_bit(tmp_path, monkeypatch, changes):
    model, fitted = run(tmp_path / "now", **changes)
    monkeypatch.setattr(placement, "is_accelerator", lambda device: True)
    late, read = run(tmp_path / "late", **changes)
    assert torch.equal(weights(late), weights(model))
    assert read.history == fitted.history


class Exploding:
    """A loss that is infinite at one step alone."""

    def __init__(self, step: int):
        self.step, self.seen, self.weights = step, [], None

    def __call__(self, roles, batch):
        if len(self.seen) == self.step:
            self.weights = weights(roles.student).clone()
        logits = roles.student(batch.x)
        values = logits.square().mean(1) * (float("inf") if len(self.seen) == self.step else 1)
        self.seen.append(batch)
        yield {"fine": logits.mean(1), "boom": values}


@pytest.mark.parametrize("often", [1, 2, 100])
def test_a_late_look_finds_the_first_bad_step_its_batch_and_untouched_weights(
    often, accelerated, tmp_path, monkeypatch
):
    from safetensors.torch import load_file

    monkeypatch.setattr(divergence, "CHECK_STEPS", often)
    network = initialise_classifier("resnet8-s2-w8", 4, [0.5] * 3, [0.25] * 3, 0)
    objective = Exploding(1)
    with pytest.raises(RetortError, match=r"term 'boom' is not finite at epoch 1, step 1;.*lower"):
        run(tmp_path, objective=objective, network=network, momentum=0.9)
    assert torch.equal(weights(network), objective.weights)
    saved = load_file(tmp_path / "diverged.safetensors")
    assert torch.equal(saved["x"], objective.seen[1].x)
    assert torch.equal(saved["index"], objective.seen[1].index)
    assert not (tmp_path / loop.CHECKPOINT_FILE).exists()


def test_a_stop_with_unread_terms_ends_bit_for_bit(accelerated, tmp_path, monkeypatch):
    whole, first = run(tmp_path / "whole", ema=0.9)
    left, update = [5], loop.take_optimizer_step

    def counted(training, batch):
        update(training, batch)
        left[0] -= 1
        if left[0] == 0:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop, "take_optimizer_step", counted)
    with pytest.raises(SystemExit):
        run(tmp_path / "cut", ema=0.9)
    resumed, second = run(tmp_path / "cut", ema=0.9)
    assert torch.equal(weights(resumed), weights(whole))
    assert second.history == first.history


@pytest.mark.parametrize("labels", [[0, 1] * 8, [0] * 9 + [1, 2, 3], [3, 1, 2, 2, 1, 0, 0], [5]])
def test_pairs_made_on_the_device_clash_as_rarely_as_any(labels, accelerated):
    y, rng = torch.tensor(labels), torch.Generator().manual_seed(0)
    most = max(0, 2 * max(map(labels.count, labels)) - len(labels))
    found = set()
    for _ in range(20):
        partner, is_other = pair_different_labels(y, rng)
        assert sorted(partner.tolist()) == list(range(len(labels)))
        assert count_clashes(labels, partner.tolist()) == most == len(labels) - int(is_other.sum())
        found.add(tuple(partner.tolist()))
    assert len(found) > 5 or len(labels) == 1


class Remote(torch.Generator):
    """A generator that says it lies on another device."""

    device = torch.device("cuda")


def test_places_of_crops_and_the_seeds_of_libraries_are_drawn_without_the_device():
    ramp = torch.linspace(0, 1, 64).view(1, 1, 8, 8).expand(2, 3, 8, 8)
    rngs = [Remote().manual_seed(seed) for seed in (1, 1, 2)]
    before = [rng.get_state() for rng in rngs]
    one, again, other = (resized_crop(ramp, rng) for rng in rngs)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert draw_host_seed(rngs[0], "mix") == derive_seed("mix", 1) % 2**31
    assert draw_host_seed(rngs[0], "mix") != draw_host_seed(rngs[0], "crop")
    assert all(map(torch.equal, before, [rng.get_state() for rng in rngs]))
