"""What a configuration will take: networks' FLOP, passes of attacks, and artefacts by hand."""

import argparse
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pipeline.attacks import corruptions, cw_linf, fgsm, pgd, square
from pipeline.cli import cost_report
from pipeline.config.reader import Config, parse_config
from pipeline.errors import RetortError
from pipeline.planning import cost, evaluation_cost, flops, network_cost
from pipeline.planning.cost import ArtefactCost
from pipeline.planning.graph import make_plan
from pipeline.planning.plan import PlannedArtefact
from tests.helpers.graph import tiny

RGB32 = (3, 32, 32)


def test_flop_of_known_networks():
    """ResNet-18 of CIFAR: 1.11 GFLOP; its stem by hand is 2 * 27 * 64 * 32 * 32."""
    flop, size = flops.measure_classifier("resnet18", RGB32, 10)
    assert flop == pytest.approx(1.11e9, rel=0.01)
    assert size == pytest.approx(11.18e6, rel=0.01)
    with flops.META_DEVICE:
        stem = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    assert flops.measure_network(stem, stem, RGB32) == (2 * 27 * 64 * 32 * 32, 27 * 64)


class Counted(nn.Module):
    """A model that no attack breaks; counts images forwards and backwards to its input."""

    def __init__(self):
        super().__init__()
        self.linear, self.count = nn.Linear(3 * 64, 10), 0
        self.linear.weight.data *= 1e-4
        self.linear.bias.data = torch.tensor([9.0, *[0.0] * 9])

    def book(self, grad: Tensor) -> None:
        self.count += len(grad)

    def forward(self, x: Tensor) -> Tensor:
        self.count += len(x)
        x = x.view_as(x)
        if x.requires_grad:
            x.register_hook(self.book)
        return self.linear(x.flatten(1))


@pytest.mark.parametrize(
    "attack",
    [
        fgsm.Attack(),
        fgsm.Attack(eps=(0.0, 0.1)),
        pgd.Attack(steps=5),
        pgd.Attack(eps=(0.01, 0.1), steps=3, restarts=2, step=0.005),
        cw_linf.Attack(steps=4),
    ],
)
def test_an_attack_says_what_it_costs(attack):
    model = Counted().eval()
    attack(model, torch.rand(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64), 0)
    assert model.count == 2 * attack.count_passes((3, 8, 8))


def test_square_costs_no_more_than_it_says():
    model, attack = Counted().eval(), square.Attack(queries=20)
    attack(model, torch.rand(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64), 0)
    assert 2 * 20 < model.count <= 2 * attack.count_passes((3, 8, 8))
    assert corruptions.Attack(names=("fog", "contrast")).count_passes(RGB32) == 2


def test_artefacts_by_hand():
    """512 images in batches of 64, one epoch; PGD-AT with 2 steps is 7 F, RSLAD's step 10 F + 1."""
    config = parse_config(tiny())
    small, size = flops.measure_classifier("resnet8-s2-w8", RGB32, 10)
    assert cost.compute_dataset_cost(config, "tiny") == ArtefactCost(
        disk_bytes=(512 + 64 + 64) * (3072 + 8)
    )
    assert cost.compute_teacher_cost(config, "natural") == ArtefactCost(
        512 * 3 * small, 512, 4 * size
    )
    assert cost.compute_teacher_cost(config, "robust").flop == 512 * 8 * small
    assert cost.compute_student_cost(config, "rslad").flop == 512 * (10 + 1) * small
    assert cost.compute_student_cost(config, "dad").flop == 512 * 6 * small
    clip, _ = network_cost.measure_model(config, "clip")
    encoder, decoder, _ = network_cost.measure_discretizer(config, "vq", 32)
    bank = cost.compute_bank_cost(config, "dad")
    assert bank.flop == pytest.approx(512 * (2 * (encoder + decoder) + (2 + 1 + 1) * clip))
    assert bank.disk_bytes == 512 * (3072 + 2 * 2 * 10 + 64)


def test_the_papers_bank_takes_1700_gflop_an_image():
    raw = tiny()
    raw["datasets"]["tiny"] = {"source": {"imagenet100": {}}, "train": 512, "test": 64}
    raw["teachers"] = {
        "clip": {"dataset": "tiny", "open_clip": {"model": "ViT-L-14", "pretrained": "random"}}
    }
    raw["discretizers"]["vq"] = {"checkpoint": {"path": "vq-f8.ckpt", "sha256": "0" * 64}}
    config = parse_config(
        {k: v for k, v in raw.items() if k not in ("students", "generators", "suites")}
    )
    found = cost.compute_bank_cost(config, "dad")
    assert found.flop / found.images == pytest.approx(1.7e12, rel=0.02)


def evaluation(config: Config, name: str) -> PlannedArtefact:
    plan = make_plan(config)
    return plan.artefacts[plan.refs_by_name["evaluation", name]]


def test_an_evaluation_is_its_attacks():
    raw = tiny()
    raw["suites"]["main"]["attacks"] = ["clean", {"pgd": {"steps": 2}}, {"fgsm": {"n_eval": 8}}]
    config = parse_config(raw)
    small, _ = flops.measure_classifier("resnet8-s2-w8", RGB32, 10)
    found = evaluation_cost.compute_evaluation_cost(config, evaluation(config, "rslad-0.main"))
    assert found.flop == pytest.approx(small * (64 * 1 + 64 * 6 + 8 * 4))
    assert found.images == 64 + 64 + 8


def test_an_attack_by_transfer_runs_on_the_other_model():
    """PGD-20 by default: 20 times two passes and a start's on S_16, one on S_8 to judge."""
    raw = tiny()
    raw["students"]["kd"]["model"] = "resnet8-s2-w16"
    raw["suites"] = {"v1.0": {"preset": "thorough", "models": "adaad", "n_eval": 8}}
    config = parse_config(raw)
    narrow, wide = (flops.measure_classifier(f"resnet8-s2-w{w}", RGB32, 10)[0] for w in (8, 16))
    found = evaluation_cost.compute_evaluation_cost(
        config, evaluation(config, "adaad-0.v1.0-from-kd")
    )
    passes = pgd.Attack(eps=8 / 255, step=2 / 255, n_eval=8).count_passes(RGB32)
    assert found.flop == pytest.approx(8 * ((passes - 1) * wide + narrow))
    assert found.images == 8


def test_another_test_set_is_counted_by_its_own_images():
    raw = tiny()
    raw["datasets"]["few"] = {"source": "cifar10", "train": 0, "test": 16}
    raw["suites"]["main"] = {"attacks": ["clean"], "dataset": "few", "models": "adaad"}
    config = parse_config(raw)
    assert (
        evaluation_cost.compute_evaluation_cost(config, evaluation(config, "adaad-0.main")).images
        == 16
    )


def test_a_namesake_of_a_teacher_costs_what_its_own_network_does():
    raw = tiny()
    raw["students"]["natural"] = {**raw["students"]["kd"], "model": "resnet8-s2-w16"}
    config = parse_config(raw)
    narrow, wide = (flops.measure_classifier(f"resnet8-s2-w{w}", RGB32, 10)[1] for w in (8, 16))
    assert cost.compute_student_cost(config, "natural").disk_bytes == 4 * wide
    assert cost.compute_teacher_cost(config, "natural").disk_bytes == 4 * narrow


def test_what_is_made_costs_nothing_more(tmp_path, capsys):
    raw = {**tiny(), "store": str(tmp_path / "store")}
    plan = make_plan(parse_config(raw))
    ref = plan.refs_by_name["teacher", "natural"]
    before = cost_report.make_line(parse_config(raw), plan, ref)
    assert before.due_cost == before.artefact_cost != ArtefactCost()
    plan.manifest_path(ref).parent.mkdir(parents=True)
    plan.manifest_path(ref).write_text("{}")
    assert cost_report.make_line(parse_config(raw), plan, ref).due_cost == ArtefactCost()


def test_the_table_names_every_artefact(tmp_path, capsys):
    import yaml

    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump({**tiny(), "store": str(tmp_path / "store")}))
    cost_report.run_verb(argparse.Namespace(configfile=[file], gflops=10.0))
    printed = capsys.readouterr().out
    for name in ("natural", "vq", "dad-0", "adaad-0.main", "10.0 GFLOP/s (given)"):
        assert name in printed
    with pytest.raises(RetortError, match="--gflops 0: give a rate above 0"):
        cost_report.run_verb(argparse.Namespace(configfile=[file], gflops=0.0))


def test_attacks_that_dominate_are_pointed_out():
    """Square costs 5,015 passes an image and clean one; what is made already costs nothing."""
    raw = {key: value for key, value in tiny().items() if key not in ("banks", "generators")}
    raw["students"] = {"natural": raw["students"]["natural"]}
    raw["suites"] = {"main": {"attacks": ["clean", "square"], "models": "students"}}
    config = parse_config(raw)
    planned = evaluation(config, "natural-0.main")
    spent = dict(evaluation_cost.list_attack_costs(config, planned))
    assert spent["square"].flop == pytest.approx(5015 * spent["clean"].flop)
    whole = evaluation_cost.compute_evaluation_cost(config, planned)
    line = cost_report.CostLine("evaluation", "natural-0.main", whole, is_made=False)
    rate = spent["square"].flop / 1e9 / 3600  # one hour
    plan = make_plan(config)
    assert cost_report.list_dominating_attacks(config, plan, [line], rate) == [
        "warning: square takes 100% of the run's hours, 1.000; a smaller n_eval takes less"
    ]
    made = replace(line, is_made=True)
    assert cost_report.list_dominating_attacks(config, plan, [made], rate) == []


def test_a_data_free_student_pays_for_its_generator_too():
    """Stage II: 2 batches of 16; S 5 F, T_nat and T_rob 2 n + 1 each; G 3, T_nat 2 more."""
    config = parse_config(tiny())
    small, _ = flops.measure_classifier("resnet8-s2-w8", RGB32, 10)
    own, _ = cost.measure_generator_network(config, config.generators["derd"])
    found = cost.compute_student_cost(config, "derd")
    assert found.images == 32
    assert found.flop == pytest.approx(32 * ((5 + 2 * (2 * 2 + 1) + 2) * small + 3 * own))


def test_seeded_generators_and_kept_weights_have_a_price():
    raw = tiny()
    raw["generators"]["derd"]["seeds"] = [0, 1]
    raw["generators"]["derd"]["recipe"]["keep_epochs"] = [1]
    raw["teachers"]["robust"]["recipe"] = {"epochs": 1, "batch": 64, "keep_epochs": [1]}
    raw["suites"]["early"] = {"attacks": ["clean"], "epochs": [1]}
    plan = make_plan(config := parse_config(raw))
    lines = {
        name: cost_report.make_line(config, plan, ref).artefact_cost
        for (kind, name), ref in plan.refs_by_name.items()
        if cost_report.has_cost(kind)
    }
    assert lines["derd.seed1"] == lines["derd.seed0"] == cost.compute_generator_cost(config, "derd")
    for model in ("robust", "derd.seed1-warm"):
        small, _ = flops.measure_classifier("resnet8-s2-w8", RGB32, 10)
        assert lines[f"{model}.epoch1.early"].flop == pytest.approx(64 * small)
