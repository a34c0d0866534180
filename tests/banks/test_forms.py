"""Every form of a bank: stored fields, read back, match the networks' outputs."""

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from webdataset.tariterators import group_by_keys, tar_file_expander

from pipeline.banks.batches import make_bank_source
from pipeline.banks.reader import read_bank
from pipeline.banks.shards import read_shard, shard_name
from pipeline.core.batch import Roles
from pipeline.core.images import scale_to_unit_range
from pipeline.core.mixup import MixSettings
from pipeline.data.batches import BatchSchedule, DatasetSource
from pipeline.errors import RetortError
from pipeline.stages import build_bank
from pipeline.store.artefact import open_artefact
from tests.helpers import bank_store
from tests.helpers.bank_store import (
    BASE,
    CLASSES,
    CODES,
    ROWS,
    SAMPLES,
    SHARDS,
    images,
    labels,
    quantiser,
    shards_of,
    store_in,
)
from tests.helpers.graph import environment

TOP = {"top_k": 3, "temperature": 4.0, "clean": True, "classes": CLASSES}
VIEWS = {"count": 2, "augment": "crop_flip", "rand_augment": 0, "mixup": 0.8, "cutmix": 1.0}
FORMS = {"blocks": {}, "png": {"encoding": "png"}}
ROUNDED = {"atol": 0.02, "rtol": 1e-3}  # logits in fp16, and sums in batches of other sizes


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> bank_store.Store:
    return store_in(tmp_path_factory.mktemp("forms"))


def said(shown: torch.Tensor) -> torch.Tensor:
    """The teacher's logits on uint8 images."""
    with torch.no_grad():
        return bank_store.teacher()(scale_to_unit_range(shown))


def rows_of(fields: dict) -> torch.Tensor:
    return torch.arange(len(fields["row"]))


def test_a_bank_of_outputs(store):
    job = store.made("outputs", **BASE)
    bank = read_bank(job.folder)
    assert set(bank.fields) == {"row", "label", "t_clean"}
    torch.testing.assert_close(bank.fields["t_clean"].float(), said(images()), **ROUNDED)
    assert torch.equal(bank.fields["label"].long(), labels())
    assert set(open_artefact(job.folder).manifest.facts) == {"rows", "teacher_clean_accuracy"}
    with pytest.raises(RetortError, match="has no 'x_adv'; it has row, label, t_clean"):
        read_bank(job.folder, ["x_adv"])


@pytest.mark.parametrize("reject", ["drop", "keep"])
@pytest.mark.parametrize("form", ["blocks", "png", "jpeg"])
def test_outputs_are_those_of_what_is_read_back(store, form, reject):
    extra = {} if form == "blocks" else {"encoding": form}
    fields = read_bank(
        store.made(f"{form}-{reject}", **{**SAMPLES, **extra, "reject": reject}).folder
    )
    fields = fields.fields
    stored, row = fields["x_adv"][rows_of(fields)], fields["row"]
    torch.testing.assert_close(fields["t_adv"].float(), said(stored), **ROUNDED)
    right = fields["t_adv"].argmax(1) == labels()[row]
    assert right.all() if reject == "drop" else len(row) == ROWS
    if form != "blocks":
        assert fields["x_adv"].shape == (len(row), 3, 32, 32)
        assert torch.equal(fields["x_adv"][1:3], stored[1:3])
    if reject == "keep" and form != "jpeg":
        with torch.no_grad():
            q = quantiser().reconstruct(scale_to_unit_range(images())[~right])
        assert ((stored[~right] / 255 - q).abs() <= 0.51 / 255).all()


def test_png_is_lossless_and_jpeg_is_what_the_teacher_judged(store):
    plain, png, jpeg = (
        read_bank(store.made(f"{form}-drop", **SAMPLES, **extra).folder).fields
        for form, extra in (*FORMS.items(), ("jpeg", {"encoding": "jpeg"}))
    )
    assert torch.equal(plain["x_adv"], png["x_adv"][rows_of(png)])
    both = sorted(set(plain["row"].tolist()) & set(jpeg["row"].tolist()))
    one = plain["x_adv"][torch.isin(plain["row"], torch.tensor(both))]
    two = jpeg["x_adv"][rows_of(jpeg)][torch.isin(jpeg["row"], torch.tensor(both))]
    assert not torch.equal(one, two)
    grey = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # JPEG keeps colours at half size
    assert ((one.float() - two.float()) * grey).sum(1).abs().mean() < 3


def test_a_student_sees_the_same_samples_from_files_as_from_memory(store):
    jobs = (store.made(f"{form}-drop", **SAMPLES, **extra) for form, extra in FORMS.items())
    data = DatasetSource(images(), labels(), BatchSchedule(2, 11, 0, augment="crop_flip"))
    memory, files = (make_bank_source(data, job.folder, ()) for job in jobs)
    for start in (0, 2):
        pairs = (s.iterate_batches(1, start, Roles(torch.nn.Identity())) for s in (memory, files))
        for one, two in zip(*pairs, strict=True):
            for name in ("x_adv", "y_adv"):
                assert torch.equal(one.stored[name], two.stored[name])
            assert torch.equal(one.x, two.x)


def test_q_of_x_alone(store):
    job = store.made("q", **{**SAMPLES, "attack": None, "reject": "keep"})
    fields = read_bank(job.folder).fields
    with torch.no_grad():
        q = quantiser().reconstruct(scale_to_unit_range(images()))
    assert ((fields["x_adv"] / 255 - q).abs() <= 0.51 / 255).all()
    facts = open_artefact(job.folder).manifest.facts
    assert facts["token_flips"] == 0
    assert facts["pixel_change"] <= 0.5 / 255
    assert "token_flips_beyond" not in facts


@pytest.mark.parametrize("reject", ["drop", "keep"])
def test_tokens_are_those_of_the_stored_pixels(store, reject):
    spec = {**SAMPLES, "reject": reject}
    fields = read_bank(store.made(f"tokens-{reject}", **spec, tokens=True).folder).fields
    assert fields["tokens"].dtype == torch.uint8
    with torch.no_grad():
        shown = quantiser().decode_tokens(fields["tokens"].long())
    assert ((shown * 255).round() - fields["x_adv"].float()).abs().max() <= 1
    alone = read_bank(store.made(f"only-{reject}", **spec, encoding="tokens").folder).fields
    assert "x_adv" not in alone
    for name in ("tokens", "t_adv", "t_clean", "row"):
        assert torch.equal(alone[name], fields[name])


def test_top_k_outputs_come_back_near(store):
    full = read_bank(store.made("blocks-drop", **SAMPLES).folder).fields
    cut = read_bank(store.made("top", **SAMPLES, outputs=TOP).folder).fields
    for name in ("t_clean", "t_adv"):
        rows = torch.arange(len(full[name]))
        p, q = (
            (logits / 4.0).log_softmax(1).double()
            for logits in (full[name].float(), cut[name][rows])
        )
        kept = p.argsort(1, descending=True)[:, :3]
        torch.testing.assert_close(p.gather(1, kept), q.gather(1, kept), atol=0.02, rtol=0)
        tau = 1 - p.exp().gather(1, kept).sum(1)
        assert ((p.exp() * (p - q)).sum(1) <= tau * np.log(CLASSES - 3) + 0.02).all()
        assert torch.equal(cut[name][rows].argmax(1), full[name].argmax(1))


def test_clean_outputs_are_left_out_where_nobody_wants_them(store):
    only = {"top_k": 0, "temperature": 1.0, "clean": False}
    job = store.made("unclean", **SAMPLES, outputs=only)
    assert "t_clean" not in read_bank(job.folder).fields
    assert "teacher_clean_accuracy" not in open_artefact(job.folder).manifest.facts


@pytest.mark.parametrize(
    ("spec", "operations", "outputs"),
    [(SAMPLES, 0, {}), (SAMPLES, 0, {"outputs": TOP}), (BASE, 9, {})],
    ids=["samples", "top 3", "outputs alone, operations"],
)
def test_replay_is_the_recomputation(store, spec, operations, outputs):
    """The teacher's outputs on the images that a student gets of a view are the stored ones."""
    key = f"views-{'attack' in spec}-{'outputs' in outputs}"
    job = store.made(key, **spec, **outputs, views={**VIEWS, "rand_augment": operations})
    plan = BatchSchedule(3, 11, 0, mixing=MixSettings(classes=CLASSES))
    source = make_bank_source(DatasetSource(images(), labels(), plan), job.folder, ())
    nobody = Roles(torch.nn.Identity())
    for epoch in range(2):
        for batch in source.iterate_batches(epoch, 0, nobody):
            for x, t in (("x", "t_clean"), ("x_adv", "t_adv")):
                if t not in batch.stored:
                    assert (spec, t) == (BASE, "t_adv")
                    continue
                shown = batch.x if x == "x" else batch.stored[x]
                assert torch.equal((shown * 255).round() / 255, shown)
                with torch.no_grad():
                    logits = bank_store.teacher()(shown)
                if outputs:
                    both = (v.log_softmax(1).topk(3).values for v in (logits, batch.stored[t]))
                    torch.testing.assert_close(*both, atol=0.5, rtol=0.05)
                    assert (logits.argmax(1) == batch.stored[t].argmax(1)).float().mean() > 0.9
                else:
                    torch.testing.assert_close(logits, batch.stored[t], **ROUNDED)
            assert batch.y.shape == (11, CLASSES)


def test_a_bank_of_views_says_what_the_teacher_said_of_the_sample(store):
    job = store.made("views-True-False", **SAMPLES, views=VIEWS)
    fields = read_bank(job.folder).fields
    assert fields["t_adv"].shape == (len(fields["row"]), 2, CLASSES)
    assert torch.equal(fields["predicted"].long(), labels()[fields["row"]])


@pytest.mark.parametrize(
    "extra", [{}, {"encoding": "jpeg"}, {"views": VIEWS}], ids=["blocks", "jpeg", "views"]
)
def test_neither_grouping_nor_order_changes_a_byte(store, extra, tmp_path):
    one = store_in(tmp_path).bank("one", **SAMPLES, **extra)
    build_bank.run_group(one, range(SHARDS))
    other = store.bank(f"grouped{len(str(extra))}", **SAMPLES, **extra)
    for shard in reversed(range(SHARDS)):
        build_bank.run_group(other, range(shard, shard + 1))
    assert shards_of(one) == shards_of(other)
    assert len(shards_of(one)) == SHARDS


def test_two_processes_at_once_share_the_shards(store):
    """Both get all shards; one builds each shard while the other waits or takes the next."""
    one, two = store.made("blocks-drop", **SAMPLES), store.bank("shared", **SAMPLES)
    command = [sys.executable, "-m", "pipeline", "build_bank", str(two.folder), "--shards", "0:3"]
    options = {"env": environment(), "stderr": subprocess.PIPE, "text": True}
    logs = [
        process.communicate()[1]
        for process in [subprocess.Popen(command, **options) for _ in range(2)]
    ]
    assert sum(log.count("accepted") for log in logs) == SHARDS
    assert shards_of(one) == shards_of(two)


def test_any_reader_of_webdatasets_reads_the_pictures(store):
    job = store.made("png-drop", **SAMPLES, encoding="png")
    fields, found = read_bank(job.folder).fields, {}
    for number in range(SHARDS):
        with (job.folder / shard_name(number)).open("rb") as stream:
            for sample in group_by_keys(tar_file_expander([{"url": "", "stream": stream}])):
                if "png" in sample:
                    image = Image.open(io.BytesIO(sample["png"]))
                    found[int(sample["__key__"])] = np.asarray(image).transpose(2, 0, 1)
    assert list(found) == fields["row"].tolist()
    assert np.array_equal(np.stack(list(found.values())), fields["x_adv"][rows_of(fields)].numpy())


@pytest.mark.parametrize(("extra", "views"), [({}, 1), ({"views": VIEWS}, 2)])
def test_bytes_a_sample_at_32_px(tmp_path, extra, views, monkeypatch):
    """At most pixels + 4 bytes per class and view + 64 bytes, where every row has a sample.

    Blocks are as large as by default; the 10 kB at the end of each tar are left out.
    """
    size, many = 2 * 128, 2 * 128 // ROWS + 1
    shown, told = images().repeat(many, 1, 1, 1)[:size], labels().repeat(many)[:size]
    monkeypatch.setattr(bank_store, "images", lambda: shown)
    monkeypatch.setattr(bank_store, "labels", lambda: told)
    spec = {**SAMPLES, "attack": None, "reject": "keep", "shards": 1, "block": 128, **extra}
    job = store_in(tmp_path).made("large", **spec)
    path = job.folder / shard_name(0)
    rows = [len(block["x_adv"]) for block in read_shard(path)]
    assert rows == [128, 128]
    assert (path.stat().st_size - 10240) / size <= 3072 + 4 * CLASSES * views + 64


def test_tokens_take_a_byte_each_up_to_256_codes(store):
    job = store.made("only-keep", **{**SAMPLES, "reject": "keep"}, encoding="tokens")
    block = next(read_shard(job.folder / shard_name(0)))
    assert CODES <= 256
    assert block["tokens"].nbytes == len(block["row"]) * 16 * 16
