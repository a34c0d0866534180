"""The report stage on a store of made-up artefacts, written with the project's own writers."""

import hashlib
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from pipeline.banks.shards import shard_name, sidecar_path, write_shard
from pipeline.core.attack_protocol import AttackPoint
from pipeline.core.seeding import make_generator
from pipeline.data.splits import Split, save_split
from pipeline.errors import RetortError
from pipeline.models import vqgan
from pipeline.report.outcomes import open_study
from pipeline.report.page.assets import render_markdown
from pipeline.report.sanity_checks import list_outdated_artefacts
from pipeline.report.tables import format_comparison_table
from pipeline.stages import report
from pipeline.stages.evaluate import OUTCOME_SCHEMA, OUTCOMES_FILE, write_chunk
from pipeline.store.artefact import Job, open_artefact, write_json, write_manifest
from pipeline.store.attempt_cost import record_attempt_cost
from pipeline.store.code_revisions import read_revision
from pipeline.training.loop import write_history
from tests.helpers.points import CLEAN, EPS, corrupted, pgd
from tests.helpers.specs import completed

# webdataset leaves the closing of a shard's file to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CLASSES = ["cat", "dog", "frog", "ship"]
STAGE_CODE = {"pipeline.core.losses": read_revision("pipeline.core.losses")}
RECIPE = {"epochs": 2, "batch": 8}


class Store:
    """Writes finished artefacts with the project's own writers, and then a report's job."""

    def __init__(self, folder):
        self.folder, self.inputs, self.names = folder, {}, []

    def add(self, kind, name, spec, inputs, write, facts=None):
        """Write one artefact; ``write`` fills its folder and returns its files' names."""
        key = hashlib.sha256(f"{kind}/{name}".encode()).hexdigest()[:12]
        folder = self.folder / kind / key
        folder.mkdir(parents=True)
        sources = {role: self.inputs[dict(self.names)[at]] for role, at in inputs.items()}
        job = Job(folder, kind, name, key, completed(kind, spec), sources, STAGE_CODE)
        with record_attempt_cost(job, "run"):
            files = write(folder)
        write_manifest(job, job.build_manifest(files, facts or {}))
        self.inputs[f"{kind}/{key}"] = folder
        self.names.append([f"{kind}/{name}", f"{kind}/{key}"])

    def job(self, **spec):
        """The report's job."""
        folder = self.folder / "report" / "0123456789ab"
        folder.mkdir(parents=True)
        spec = {"title": "Tiny <students>", "samples": 2, "names": self.names, **spec}
        return Job(folder, "report", "report", folder.name, spec, self.inputs, {})


def write_data(folder):
    """Write random images in three splits."""
    for name in ("train", "val", "test"):
        images = torch.randint(0, 256, (16, 3, 32, 32), generator=make_generator("data", name))
        save_split(folder / f"{name}.safetensors", Split(images.byte(), torch.arange(16) % 4))
    return ["train.safetensors", "val.safetensors", "test.safetensors"]


def write_trained(folder, epochs=2, **last):
    """Write a training's history."""
    records = [{"epoch": e + 1, "lr": 0.1, "ce": 2 / (e + 1), **last} for e in range(epochs)]
    write_history(folder / "history.json", records)
    return ["history.json"]


def write_quantiser(folder):
    """Write a VQGAN with random weights."""
    architecture = vqgan.VQGANArchitecture(
        ch=32, ch_mult=(1,), num_res_blocks=1, attn_resolutions=(), n_codes=16, resolution=32,
        unshuffle=4, mid_attention=False,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vqgan.save(vqgan.VQGAN(architecture), folder / "model.safetensors")
    return ["model.safetensors"]


def write_bank(folder):
    """Write a shard with one block, half of its rows accepted."""
    logits = np.zeros((16, 4), np.float16)
    logits[np.arange(16), np.arange(16) % 4] = 3
    kept = np.arange(16) % 2 == 0
    block = {
        "row": np.arange(16),
        "label": (np.arange(16) % 4).astype(np.int16),
        "accepted": kept,
        "t_clean": logits,
        "x_adv": np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), np.uint8),
        "t_adv": logits[kept],
        "flips": np.full(8, 0.5, np.float16),
    }
    write_shard(folder / shard_name(0), iter([(0, block, {"rows": 16})]))
    assert sidecar_path(folder / shard_name(0)).exists()
    return [shard_name(0)]


def write_picture(folder):
    """Write the files of a generator."""
    Image.new("RGB", (8, 8), (200, 30, 30)).save(folder / "samples.png")
    return [*write_trained(folder), "samples.png"]


def write_outcomes(folder, accuracy):
    """Write a model's outcomes: by point, the number of correct images and of all images."""
    tables = []
    for point, (right, n) in accuracy.items():
        label = np.arange(n) % 4
        prediction = np.where(np.arange(n) < right, label, (label + 1) % 4)
        columns = {name: [value] * n for name, value in asdict(point).items()}
        columns |= {"index": np.arange(n), "label": label, "prediction": prediction}
        tables.append(
            pa.table(
                {"epoch": [None] * n, "confidence": [None] * n, **columns}, schema=OUTCOME_SCHEMA
            )
        )
    write_chunk(folder / OUTCOMES_FILE, pa.concat_tables(tables))
    return [OUTCOMES_FILE]


BANK_FACTS = {
    "rows": 16, "accepted": 8, "acceptance": 0.5, "teacher_clean_accuracy": 0.9, "token_flips": 0.6,
    "token_flips_requantised": 0.5, "token_flips_beyond": 0.1, "pixel_change": 0.01,
}  # fmt: skip
Q_FACTS = {"psnr_db": 20.0, "codes_used": 0.5, "n_codes": 16, "grid": [8, 8], "images": 16}
MODELS = {"student/kd-0": 9, "student/kd-1": 11, "student/dad-0": 12, "teacher/clip": 8}


def full_store(folder):
    """A store with every kind of artefact."""
    store, spec = Store(folder), {"model": "r8", "recipe": RECIPE, "device": "cpu"}
    kd, dad = ({**spec, "objective": {name: {}}} for name in ("kd", "dad"))
    counts = {"train": 16, "val": 16, "test": 16}
    facts = {"classes": CLASSES, "mean": [0.5] * 3, "std": [0.2] * 3, "shape": [3, 32, 32]}
    store.add("dataset", "tiny", {}, {}, write_data, {**facts, "counts": counts})
    data = {"dataset": "dataset/tiny"}
    clip = {"clip": {"embed": 8}, "device": "cpu"}
    store.add("teacher", "clip", clip, data, write_trained, {"epochs": 2})
    store.add("discretizer", "vq", {}, data, write_quantiser, Q_FACTS)
    made_from = {**data, "teacher": "teacher/clip", "discretizer": "discretizer/vq"}
    store.add("bank", "dad", {}, made_from, write_bank, BANK_FACTS)
    warm = {"steps_per_epoch": 3}
    store.add("generator", "g", warm, {"teacher": "teacher/clip"}, write_picture, {"epochs": 2})
    teacher = {**data, "teachers.teacher": "teacher/clip"}
    for seed in (0, 1):
        store.add("student", f"kd-{seed}", kd, teacher, lambda at: write_trained(at, val_clean=0.5))
    store.add("student", "dad-0", dad, {**data, "bank": "bank/dad"}, write_trained)
    for name, right in MODELS.items():
        linf = {CLEAN: (right, 16), pgd(20, 4 / 255): (5, 16), pgd(20, EPS): (3, 16)}
        shift = {corrupted("fog"): (right - 2, 16), corrupted("frost"): (right - 4, 16)}
        suites = {"linf": linf, "aa": {AttackPoint("autoattack", EPS): (2, 4)}, "shift": shift}
        for suite, accuracy in suites.items():
            label = f"{name.partition('/')[2]}.{suite}"
            store.add(
                "evaluation", label, {}, {**data, "model": name},
                lambda at, accuracy=accuracy: write_outcomes(at, accuracy),
            )  # fmt: skip
    return store


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished report over a full store."""
    job = full_store(tmp_path_factory.mktemp("store")).job()
    write_manifest(job, report.run(job))
    return job


def test_other_revisions_are_listed(tmp_path):
    job = full_store(tmp_path).job()
    assert list_outdated_artefacts(open_study(job)) == []
    bank = next(path for ref, path in job.inputs.items() if ref.startswith("bank/"))
    manifest = open_artefact(bank).manifest
    write_json(
        bank / "manifest.json", {**vars(manifest), "code": {"pipeline.core.losses": 0, "gone": 1}}
    )
    (line,) = list_outdated_artefacts(open_study(job))
    assert "gone 1 (now gone), pipeline.core.losses 0 (now" in line


def test_students_with_a_bank_are_compared_with_those_without(finished):
    (row,) = format_comparison_table(open_study(finished)).splitlines()[2:]
    cells = [c.strip() for c in row.split("|")]
    assert cells[1] == "dad – kd" and cells[2].startswith("+12.5 [") and cells[4] == "2 / 2"
    assert cells[6] == "64 / 32"


SAID = (
    "clip: a small CLIP trained here", "seeds each: 1 or 2", "AutoAttack (first 4)", "62.5 ±79.4",
    "75.0 [50.5, 89.8]", "20.0 dB", "+10.0 points", "torch 2",
)  # fmt: skip


def test_report_holds_every_section_and_number(finished):
    text = (finished.folder / "report.md").read_text()
    heads = re.findall(r"^##? (.*)$", text, re.M)
    assert heads == [
        "Tiny &lt;students>", "Accuracy", "Each corruption", "With and without a bank",
        "Ingredients", "Figures", "Cost", "Reuse", "Suspicious?", "Reproduce",
    ]  # fmt: skip
    for words in SAID:
        assert words in text, words
    assert (finished.folder / "table.md").read_text().startswith("| model ")


def test_the_table_says_which_attacks_its_worst_case_counts(finished):
    page = " ".join((finished.folder / "report.html").read_text().split())
    words = "counts an image only if it is right without attack and under each attack that every"
    assert words in page


def test_manifest_lists_what_was_written(finished):
    artefact = open_artefact(finished.folder)
    names = ("accuracy", "cost", "generator-g", "samples", "training")
    assert set(artefact.manifest.files) == {
        "report.md", "report.html", "table.md", *(f"figures/{name}.png" for name in names),
        "results.csv", "outcomes.parquet",
    }  # fmt: skip
    assert artefact.manifest.facts["accuracy"]["student/dad"]["clean"] == 0.75


def test_page_needs_nothing_beside_it(finished):
    text = (finished.folder / "report.html").read_text()
    assert text.count("<img") == text.count('src="data:image/png;base64,') == 2
    assert not re.search(r"<script[^>]*src|<iframe|@import|\ssrc=\"(?!data:)", text)
    assert not re.search(r"url\((?!['\"]?data:)|href=\"(?![#]|data:)", text)
    assert "<table" in text and "prefers-color-scheme: dark" in text


def test_page_refuses_a_missing_picture(tmp_path):
    with pytest.raises(RetortError, match="no PNG file"):
        render_markdown("![x](figures/gone.png)", tmp_path)


def test_figures_are_the_same_bytes_again(finished, tmp_path):
    job = full_store(tmp_path).job()
    report.run(job)
    for name in ("accuracy", "samples", "training"):
        path = Path("figures") / f"{name}.png"
        assert (job.folder / path).read_bytes() == (finished.folder / path).read_bytes()


def test_report_without_evaluations_bank_or_generator(tmp_path):
    store = Store(tmp_path)
    counts = {"train": 16, "val": 16, "test": 16}
    store.add("dataset", "tiny", {}, {}, write_data, {"classes": CLASSES, "counts": counts})
    assert report.run(store.job()).facts == {"accuracy": {}, "suspicions": 0}
