"""Discretizers from files: keys by sum and architecture, recognition, fitting, every refusal."""

import numpy as np
import pytest
import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.datasets import cifar10
from pipeline.errors import RetortError
from pipeline.models import vqgan
from pipeline.models.pretrained.checkpoint_files import StateDict
from pipeline.models.pretrained.vqgan_config import infer_architecture
from pipeline.models.pretrained.vqgan_match import extract_vqgan_state
from pipeline.models.vqgan import VQGAN, VQGANArchitecture, find_nearest_codes
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import write_job_files
from pipeline.stages import prepare_data, train_discretizer
from pipeline.store.artefact import Job, compute_sha256, open_artefact, read_job, write_manifest
from tests.planning.test_plan import edited, keys

SUM = "c" * 64
NARROW = {  # of vq-f8's form, and small: ddconfig, then the codebook
    "ch": 32,
    "ch_mult": [1, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [128],
    "z_channels": 4,
    "resolution": 256,
}
BOOK = {"embed_dim": 4, "n_codes": 64}
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
    """The small experiment with its discretizer from a file."""
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
    plan = make_plan_from_dict(raw)
    entry = plan.artefacts[plan.refs_by_name["discretizer", "vq"]]
    assert entry.spec == {"checkpoint": {"sha256": SUM}}
    assert entry.inputs == {}
    assert entry.outside_paths == {"checkpoint": "vq.ckpt"}
    assert not {"pipeline.training.loop", "pipeline.stages.train_discretizer"} & entry.code.keys()
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
        make_plan_from_dict(with_vq(tmp_path, config))
    assert str(caught.value).startswith("discretizers.vq.config: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"ch": 64}, "checkpoint: is not trained and has its own shape; drop 'ch'"),
        ({"epochs": 2}, "checkpoint: is not trained and has its own shape; drop 'recipe'"),
        ({"config": "nowhere.yaml"}, "config: nowhere.yaml: cannot be read (No such file"),
        ({"checkpoint": None, "config": "x"}, "discretizers.vq.dataset: is missing; name the"),
        ({"checkpoint": None, "config": "x", "dataset": "tiny"}, "config: describes a checkpoint"),
    ],
)
def test_what_does_not_go_with_a_discretiser_from_a_file(tmp_path, section, words):
    with pytest.raises(RetortError) as caught:
        make_plan_from_dict(with_vq(tmp_path, **section))
    assert words in str(caught.value)


def narrow(seed: int = 0) -> VQGAN:
    """A small VQGAN at random weights, its codes spread."""
    torch.manual_seed(seed)
    model = VQGAN(VQGANArchitecture(**NARROW, **BOOK)).eval()
    model.codebook.data.normal_(std=0.3)
    return model


def as_taming(state: StateDict) -> dict:
    """As taming saves it: under state_dict, the losses' networks beside the weights."""
    loss = {"loss.discriminator.main.0.weight": torch.zeros(2), "loss.logvar": torch.zeros(1)}
    return {"epoch": 5, "state_dict": {**state, **loss}}


def as_diffusion(state: StateDict) -> dict:
    """As a complete latent-diffusion model holds it, with its moving averages."""
    inside = {f"first_stage_model.{name}": value for name, value in state.items()}
    other = {"model.diffusion_model.out.0.weight": torch.zeros(3), "betas": torch.zeros(9)}
    return {"state_dict": {**inside, **other, "model_ema.decay": torch.ones(1)}}


def as_averaged(state: StateDict) -> dict:
    """As latent-diffusion saves a VQGAN with a moving average, in half precision."""
    shadow = {f"model_ema.{name.replace('.', '')}": value for name, value in state.items()}
    return {name: value.half() for name, value in {**state, **shadow}.items()}


@pytest.fixture
def make(tmp_path, monkeypatch):
    """A function that builds a discretizer from a file and returns its job."""
    images = np.random.default_rng(0).integers(0, 256, (700, 3, 32, 32), dtype=np.uint8)
    labels = np.random.default_rng(1).integers(0, 10, 700)
    monkeypatch.setattr(cifar10, "load", lambda split, cache: (images, labels))

    def make(content: dict, yaml_of: object = None, **section: object) -> Job:
        path = tmp_path / "vq.ckpt"
        torch.save(content, path)
        section["checkpoint"] = {"path": str(path), "sha256": compute_sha256(path)}
        raw = with_vq(tmp_path, yaml_of, **section)
        plan = make_plan_from_dict({**raw, "store": str(tmp_path / "store")})
        write_job_files(plan)
        data = read_job(plan.folder_path(plan.refs_by_name["dataset", "tiny"]))
        write_manifest(data, prepare_data.run(data))
        job = read_job(plan.folder_path(plan.refs_by_name["discretizer", "vq"]))
        write_manifest(job, train_discretizer.run(job))
        return job

    return make


def model_of(job: Job) -> VQGAN:
    """The discretizer of a finished job, as banks load it."""
    return vqgan.load(open_artefact(job.folder).get_verified_path("model.safetensors"))


@pytest.mark.parametrize("form", [as_taming, as_diffusion, as_averaged], ids=lambda f: f.__name__)
@pytest.mark.parametrize("told", [True, False])
def test_a_file_gives_the_same_tokens_and_pixels(make, form, told):
    donor = narrow()
    config = ldm(n_embed=64, **NARROW) if told else None
    job = make(form(donor.state_dict()), config)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    loaded = model_of(job)
    if form is as_averaged:
        donor = donor.half().float()
    with torch.no_grad():
        assert torch.equal(loaded.encode_to_tokens(x), donor.encode_to_tokens(x))
        assert torch.equal(loaded.reconstruct(x), donor.reconstruct(x))
    assert loaded.architecture == VQGANArchitecture(**NARROW, **BOOK)
    assert len(loaded.encode_to_tokens(x).unique()) > 10
    assert "psnr_db" not in open_artefact(job.folder).manifest.facts


def test_it_is_measured_on_a_data_set_s_test_images_where_one_is_named(make):
    facts = open_artefact(make(narrow().state_dict(), dataset="tiny").folder).manifest.facts
    assert facts["images"] == 64
    assert facts["grid"] == [16, 16]
    assert 0 < facts["psnr_db"] < 40
    assert 0 < facts["codes_used"] <= 1


def whole(architecture: VQGANArchitecture) -> StateDict:
    """Every name and shape of a VQGAN, on the meta device."""
    with torch.device("meta"):
        return VQGAN(architecture).state_dict()


@pytest.mark.parametrize(
    "architecture",
    [
        VQGANArchitecture(),
        VQGANArchitecture(
            ch_mult=(1, 2, 4), z_channels=3, embed_dim=3, n_codes=8192, attn_resolutions=()
        ),
        VQGANArchitecture(
            ch_mult=(1, 1, 2, 2, 4), attn_resolutions=(16,), z_channels=256, embed_dim=256
        ),
        VQGANArchitecture(n_codes=256, attn_resolutions=(), mid_attention=False),
    ],
    ids=["vq-f8", "vq-f4", "taming f16", "without attention"],
)
def test_published_architectures_are_recognised_by_their_tensors(architecture):
    state = whole(architecture)
    assert VQGANArchitecture(**infer_architecture(state, "file")) == architecture
    assert whole(VQGANArchitecture(**infer_architecture(state, "file"))).keys() == state.keys()


def test_vq_f8_has_all_its_tensors_and_nothing_else_is_kept():
    state = whole(VQGANArchitecture())
    kept, left = extract_vqgan_state(
        {**state, "loss.perceptual_loss.lin0.model.1.weight": torch.zeros(1)}
    )
    assert len(kept) == 299
    assert left == ["loss.perceptual_loss.lin0.model.1.weight"]


def gumbel(state: StateDict) -> None:
    state["quantize.embed.weight"] = state.pop("quantize.embedding.weight")
    state["quantize.proj.weight"] = torch.zeros(1)


def without_codes(state: StateDict) -> None:
    del state["quantize.embedding.weight"]


def kl(state: StateDict) -> None:
    state["encoder.conv_out.weight"] = torch.zeros(8, 64, 3, 3)


def cut(state: StateDict) -> None:
    del state["decoder.conv_out.bias"]


def not_finite(state: StateDict) -> None:
    state["quant_conv.bias"][0] = torch.nan


FAULTS = {
    gumbel: "vq.ckpt: is a Gumbel VQGAN, whose encoder chooses codes by logits",
    without_codes: "vq.ckpt: has no 'quantize.embedding.weight', so it is no VQGAN; name a taming",
    kl: "vq.ckpt: is a KL autoencoder, without codebook; name a VQGAN",
    cut: r"'decoder.conv_out.bias' is missing, 1 of \d+ in all; give the YAML",
    not_finite: "'quant_conv.bias' holds values that are not finite",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_files_of_another_kind_are_named(make, fault):
    state = narrow().state_dict()
    fault(state)
    with pytest.raises(RetortError, match=FAULTS[fault]):
        make(state)


def test_a_file_of_another_shape_than_its_yaml_is_named(make):
    words = r"'encoder.conv_in.weight' is \[32, 3, 3, 3\], the model wants \[64, 3, 3, 3\]; is 'con"
    with pytest.raises(RetortError, match=words):
        make(narrow().state_dict(), ldm(n_embed=64, **NARROW | {"ch": 64}))


def test_images_that_no_grid_covers_are_named():
    with pytest.raises(RetortError, match="images of 30x33 px: a token stands for 2x2"):
        narrow().encode_to_tokens(torch.zeros(1, 3, 30, 33))


class Largest(TorchDispatchMode):
    """Records the size of the largest tensor that any operation returns."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numbers = max(self.numbers, out.numel())
        return out


def test_looking_codes_up_holds_one_block_of_distances():
    tokens = 32 * 28 * 28  # a batch of 32 at 224 px
    z, book = torch.empty(tokens, 4, device="meta"), torch.empty(16384, 4, device="meta")
    with Largest() as seen:
        found = find_nearest_codes(z, book)
    assert found.shape == (tokens,)
    assert seen.numbers == vqgan.DISTANCES_PER_BLOCK
    assert tokens * 16384 > 24 * seen.numbers
