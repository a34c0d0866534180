"""Discretisers from files: keys by sum and architecture, recognition, fitting, every refusal."""

import pytest
import yaml

from pipeline.errors import RetortError
from pipeline.resolve import plan_from
from tests.test_plan import edited, keys

SUM = "c" * 64
LDM = {
    "double_z": False,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 2, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [32],
    "dropout": 0.0,
}


def with_vq(tmp_path, yaml_of: object = None, **section: object) -> dict:
    """The small experiment with its discretiser from a file."""
    entry: dict = {"checkpoint": {"path": "vq.ckpt", "sha256": SUM}, **section}
    if yaml_of is not None:
        path = tmp_path / "vq.yaml"
        path.write_text(yaml.safe_dump(yaml_of))
        entry["config"] = str(path)
    return edited("discretizers.vq", entry)


def ldm(target: str = "ldm.models.autoencoder.VQModel", n_embed: int = 16384, **changes) -> dict:
    """A latent-diffusion YAML."""
    params = {"embed_dim": 4, "n_embed": n_embed, "ddconfig": LDM | changes}
    return {"model": {"target": target, "params": params}}


def test_a_discretiser_s_key_holds_sum_and_architecture_but_no_place(tmp_path):
    raw = with_vq(tmp_path)
    plan = plan_from(raw)
    entry = plan.entries[plan.names["discretizer", "vq"]]
    assert entry.spec == {"checkpoint": {"sha256": SUM}}
    assert entry.inputs == {}
    assert entry.outside == {"checkpoint": "vq.ckpt"}
    assert not {"pipeline.loop", "pipeline.train_discretizer"} & entry.code.keys()
    base = keys(raw)["discretizer/vq"]
    assert keys({**raw, "seed": 3})["discretizer/vq"] == base
    moved = {"checkpoint": {"path": "/else.ckpt", "sha256": SUM}}
    assert keys(with_vq(tmp_path, **moved))["discretizer/vq"] == base
    described = keys(with_vq(tmp_path, ldm()))["discretizer/vq"]
    assert described != base
    assert keys(with_vq(tmp_path, ldm(ch=64)))["discretizer/vq"] != described
    assert keys(with_vq(tmp_path, ldm(dropout=0.0)))["discretizer/vq"] == described
    assert "bank/dad" in keys(with_vq(tmp_path, dataset="tiny"))


VQ_FAULTS = {
    "gumbel": (ldm(target="taming.models.vqgan.GumbelVQ"), "is a Gumbel VQGAN, whose encoder"),
    "double z": (ldm(double_z=True), "ddconfig.double_z is True; only False is built here"),
    "linear": (ldm(attn_type="linear"), "ddconfig.attn_type is 'linear'; vanilla and"),
    "width": (ldm(ch=48), "ch is 48; make it a multiple of 32"),
    "half": ({"model": {"params": {"ddconfig": LDM}}}, "has no model.params with embed_dim"),
    "a list": (["x"], "has no model.params with embed_dim"),
}


@pytest.mark.parametrize("fault", VQ_FAULTS)
def test_bad_descriptions_of_a_vqgan(tmp_path, fault):
    config, words = VQ_FAULTS[fault]
    with pytest.raises(RetortError) as caught:
        plan_from(with_vq(tmp_path, config))
    assert str(caught.value).startswith("discretizers.vq.config: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"ch": 64}, "checkpoint: is not trained and has its own shape; drop 'ch'"),
        ({"epochs": 2}, "checkpoint: is not trained and has its own shape; drop 'recipe'"),
        ({"config": "nowhere.yaml"}, "config: nowhere.yaml: cannot be read (No such file"),
        ({"checkpoint": None, "config": "x"}, "discretizers.vq.dataset: Field required; name the"),
        ({"checkpoint": None, "config": "x", "dataset": "tiny"}, "config: describes a checkpoint"),
    ],
)
def test_what_does_not_go_with_a_discretiser_from_a_file(tmp_path, section, words):
    with pytest.raises(RetortError) as caught:
        plan_from(with_vq(tmp_path, **section))
    assert words in str(caught.value)
