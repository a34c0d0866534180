"""The model zoo: known sizes, gradients, what plans see of it, and names that are refused."""

import copy

import pytest
import torch
from torch import nn

from pipeline.architectures.timm_model import TimmModel
from pipeline.errors import RetortError
from pipeline.models.classifier import build_classifier, find_model_family
from pipeline.planning.graph import make_plan_from_dict
from pipeline.trials.architecture import check_one_step_and_a_save
from tests.planning.test_plan import edited

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
# Trainable parameters with 10 classes. ResNets, MobileNetV2 and VGG: the widespread CIFAR models;
# WRN: the figures of Zagoruyko and Komodakis (36.5 M for 28-10) and TRADES, without sub_block1.
PARAMETERS = {
    "resnet18": 11_173_962,
    "resnet34": 21_282_122,
    "resnet50": 23_520_842,
    "mobilenetv2": 2_296_922,
    "wrn-28-10": 36_479_194,
    "wrn-34-10": 46_160_474,
    "wrn-34-20": 184_531_674,
    "wrn-70-16": 266_796_506,
    "vgg16-bn": 14_728_266,
    "vit-tiny-p4": 5_362_762,
    "vit-small-p4": 21_342_346,
    "vit-base-p4": 85_152_010,
    "timm/resnet50": 23_528_522,
}
FEATURES = {
    "resnet18": 512,
    "resnet50": 2048,
    "mobilenetv2": 1280,
    "wrn-28-10": 640,
    "vgg16-bn": 512,
    "vit-tiny-p4": 192,
}
SMALL = ("resnet18-w4", "resnet50-w4", "wrn-10-1", "mobilenetv2", "vgg16-bn", "timm/resnet10t")


def on_meta(name: str, classes: int = 10) -> nn.Module:
    """A network on the meta device, which takes no memory."""
    with torch.device("meta"):
        return find_model_family(name).build(name, classes)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_the_published_networks(name):
    assert sum(p.numel() for p in on_meta(name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", FEATURES)
def test_features_and_logits_have_their_shapes(name):
    network = on_meta(name, 7)
    with torch.device("meta"):
        features = network.features(torch.empty(2, 3, 32, 32))
        assert features.shape == (2, FEATURES[name])
        assert network.head(features).shape == (2, 7)


def test_a_vit_by_hand():
    width, tokens = 192, 65
    block = 12 * width**2 + 13 * width
    rest = 48 * width + width + tokens * width + width + 2 * width + 10 * width + 10
    assert PARAMETERS["vit-tiny-p4"] == 12 * block + rest


@pytest.mark.parametrize("name", SMALL)
def test_one_step_reaches_every_parameter_and_survives_a_save(name, tmp_path):
    check_one_step_and_a_save(name, tmp_path)


def test_the_strides_of_mobilenetv2_leave_four_by_four():
    network, sizes = on_meta("mobilenetv2"), []
    for block in network.layers:
        block.register_forward_hook(lambda layer, x, y: sizes.append(y.shape[-1]))
    with torch.device("meta"):
        network.features(torch.empty(2, 3, 32, 32))
    assert sizes == [32] * 3 + [16] * 3 + [8] * 7 + [4] * 4


def test_a_wide_resnet_is_started_as_trades_starts_it():
    torch.manual_seed(0)
    network = build_classifier("wrn-10-4", 10, MEAN, STD).network
    conv = network.block3.layer[0].conv2.weight
    assert conv.std().item() == pytest.approx((2 / (9 * conv.shape[0])) ** 0.5, rel=0.02)
    assert network.fc.bias.abs().max() == 0


TIMM = ("mobilenetv3_small_050", "vit_tiny_patch16_224", "resnetv2_50x1_bit", "convnext_atto")


@pytest.mark.parametrize("name", TIMM)
def test_a_timm_model_is_its_features_and_its_head(name):
    torch.manual_seed(0)
    network = find_model_family(f"timm/{name}").build(f"timm/{name}", 5).eval()
    x = torch.rand(1, 3, network.side or 64, network.side or 64)
    with torch.no_grad():
        assert torch.equal(network.head(network.features(x)), network.model(x))
        assert network.features(x).ndim == 2


def test_a_head_that_pools_is_not_applied_twice():
    network = on_meta("timm/sequencer2d_s", 5)
    with torch.device("meta"):
        assert network.head(network.features(torch.empty(2, 3, 224, 224))).shape == (2, 5)


def test_a_timm_model_keeps_its_own_size():
    assert on_meta("timm/vit_tiny_patch16_224").side == 224
    assert on_meta("timm/resnet18").side is None
    assert isinstance(copy.deepcopy(on_meta("timm/resnet18")), TimmModel)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wrn-33-10", "model 'wrn-33-10': the depth must be 6 n [+] 4"),
        ("wrn-4-10", "the depth must be 6 n [+] 4"),
        ("wrn-34-0", "is unknown"),
        ("resnet101", "is unknown; known: .*resnet<18|34|50>"),
        ("vit-tiny-p5", "a patch of 5 does not divide 32"),
        ("timm/resnet51", "timm has no 'resnet51'; did you mean 'timm/resnet"),
        ("timm/zzz", "timm has no 'zzz'; did you mean 'timm/"),
        ("timm/resnet18.nonsense", r"nonsense': timm: Invalid .*tag \(nonsense\)"),
        ("timm/deit_tiny_distilled_patch16_224", "ends in several heads"),
        ("timm/volo_d1_224", "ends in several heads"),
        ("timm/mobilenetv5_300m_enc", "an encoder without classes; name a classifier"),
        ("timm/hf_hub:someone/model", "is unknown"),
    ],
)
def test_names_that_are_refused(name, words):
    with pytest.raises(RetortError, match=words):
        on_meta(name)


def test_a_plan_refuses_a_model_for_another_size():
    line = "students.kd.model: 'timm/vit_tiny_patch16_224' takes images of 224x224 px, data set "
    with pytest.raises(RetortError, match=line + "'tiny' has 32x32"):
        make_plan_from_dict(edited("students.kd.model", "timm/vit_tiny_patch16_224"))


def test_a_plan_takes_the_largest_model_without_building_it():
    plan = make_plan_from_dict(edited("students.kd.model", "wrn-70-16"))
    entry = plan.artefacts[plan.refs_by_name["student", "kd-0"]]
    assert "pipeline.architectures.wide_resnet" in entry.code
    assert "pipeline.architectures.resnet_small" not in entry.code
