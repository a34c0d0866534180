"""An experiment on a CLIP, a timm ViT and a VQGAN from files: banks, students, the report."""

from importlib import import_module
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
import yaml

import pipeline
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import Plan, write_job_files
from pipeline.store.artefact import (
    STAGES_BY_KIND,
    compute_sha256,
    open_artefact,
    read_job,
    write_manifest,
)
from tests.helpers.graph import tiny
from tests.models.pretrained.test_vqgan_checkpoint import as_taming, narrow
from tests.stages.test_open_clip_teacher import MEAN, STD, registered, whole

assert registered  # the models that another test module registers
VIT = "vit_tiny_patch16_224"
X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def file(path: Path, content: dict) -> dict:
    """The section fields of a checkpoint, which is saved at ``path``."""
    torch.save(content, path)
    return {"path": str(path), "sha256": compute_sha256(path)}


def experiment(folder: Path, vit: torch.nn.Module) -> dict:
    """The experiment's configuration, its files in a folder."""
    colours = {"mean": MEAN, "std": STD}
    clip = file(folder / "clip.pt", whole("tiny-rn").state_dict())
    text = f"""
    store: {folder}/store
    run: {{data: {tiny()["run"]["data"]}}}
    datasets: {{tiny: {{source: cifar10, train: 32, test: 16}}}}
    discretizers: {{vq: {{dataset: tiny}}}}
    teachers:
      clip:
        dataset: tiny
        resize: 64
        unverified: true
        open_clip: {{model: tiny-rn, templates: simple}}
      vit: {{dataset: tiny, model: timm/{VIT}, resize: 224, unverified: true}}
    banks: {{dad: {{dataset: tiny, teacher: clip, discretizer: vq, reject: keep, shards: 1}}}}
    students:
      dad:
        dataset: tiny
        bank: dad
        model: resnet8-s2-w4
        objective: dad
        recipe: &recipe {{epochs: 1, batch: 32, augment: none}}
      ours: {{dataset: tiny, teacher: dad, model: resnet8-s2-w4, objective: kd, recipe: *recipe}}
    suites: {{main: {{attacks: [clean], models: [teachers, students]}}}}
    report: {{samples: 1}}
    """
    raw = yaml.safe_load(text)
    raw["discretizers"]["vq"]["checkpoint"] = file(
        folder / "vq.ckpt", as_taming(narrow().state_dict())
    )
    raw["teachers"]["clip"]["open_clip"]["pretrained"] = clip | colours
    raw["teachers"]["vit"]["checkpoint"] = file(folder / "vit.bin", vit.state_dict()) | colours
    return raw


@pytest.fixture(scope="module")
def vit() -> torch.nn.Module:
    """A timm ViT with random weights and ten classes."""
    torch.manual_seed(0)
    return timm.create_model(VIT, num_classes=10).eval()


@pytest.fixture(scope="module")
def made(tmp_path_factory, registered, vit) -> Plan:
    """The plan of the experiment, with every artefact made in this process."""
    plan = make_plan_from_dict(experiment(tmp_path_factory.mktemp("files"), vit))
    write_job_files(plan)
    for ref, entry in plan.artefacts.items():
        job = read_job(plan.folder_path(ref))
        write_manifest(job, import_module(f"pipeline.stages.{STAGES_BY_KIND[entry.kind]}").run(job))
    return plan


def folder(plan: Plan, kind: str, name: str) -> Path:
    return plan.folder_path(plan.refs_by_name[kind, name])


def test_a_timm_file_is_timm_s_model_on_resized_images(made, vit):
    large = F.interpolate(X, (224, 224), mode="bicubic", antialias=True)
    with torch.no_grad():
        expected = vit((large - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
        found = pipeline.load(folder(made, "teacher", "vit"))(X)
    torch.testing.assert_close(found, expected)


def test_the_bank_holds_what_the_file_s_clip_says(made):
    facts = open_artefact(folder(made, "bank", "dad")).manifest.facts
    assert facts["rows"] == 32
    assert 0 <= facts["acceptance"] <= 1
    assert facts["token_flips"] > 0


def test_a_student_of_ours_is_a_teacher(made):
    entry = made.artefacts[made.refs_by_name["student", "ours-0"]]
    assert entry.inputs["teachers.teacher"].ref == made.refs_by_name["student", "dad-0"]
    assert pipeline.load(folder(made, "student", "ours-0"))(X).shape == (2, 10)


def test_the_report_says_what_came_from_files(made):
    page = (folder(made, "report", "report") / "report.html").read_text()
    assert "clip is tiny-rn from a file, zeroshot head" in page
    assert f"vit is timm/{VIT} from a file" in page
    assert "vq is VQGAN from a file" in page
    assert "teachers were trained here" not in page
    assert "small VQGAN" not in page
    assert "CLIP teacher" in page
