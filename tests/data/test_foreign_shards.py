"""WebDataset as others write it: other fields, other labels, files of class names, odd keys."""

import io
import json
import logging
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from pipeline.errors import RetortError
from tests.data.test_own_images import settled
from tests.helpers.pictures import encoded, made_of, planned_of


def pack(path: Path, members: dict[str, bytes | str]) -> Path:
    """A tar file of members by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            content = data.encode() if isinstance(data, str) else data
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path.parent


def picture(label: int, kind: str = "JPEG") -> bytes:
    made, buffer = Image.open(io.BytesIO(encoded(label, 0))), io.BytesIO()
    made.save(buffer, format=kind)
    return buffer.getvalue()


def samples(image: str, label: str, labels=(0, 1, 2), kind: str = "JPEG", first: int = 0) -> dict:
    """Samples with the given fields, one for each label."""
    members: dict[str, bytes | str] = {}
    for number, value in enumerate(labels, first):
        members[f"sample{number:04d}.{image}"] = picture(number % 3, kind)
        members[f"sample{number:04d}.{label}"] = str(value)
    return members


def wds(root: Path, **more: object) -> dict:
    return {"wds": {"path": str(root), "size": 16, **more}}


FORMS = {
    "jpg and cls": ("jpg", "cls", (0, 1, 2), "JPEG"),
    "PNG and cls": ("PNG", "cls", (0, 1, 2), "PNG"),
    "jpeg and json": ("jpeg", "json", (0, 1, 2), "JPEG"),
    "webp and json object": (
        "webp",
        "json",
        ('{"label": 0}', '{"cls": 1}', '{"class": 2}'),
        "WEBP",
    ),
    "dotted": ("input.png", "target.cls", (0, 1, 2), "PNG"),
    "words": ("jpg", "cls", ("ant", "bee", "cow"), "JPEG"),
}


@pytest.mark.parametrize("form", FORMS)
def test_common_fields_are_found(form, tmp_path):
    image, label, labels, kind = FORMS[form]
    root = pack(tmp_path / "s" / "train-0.tar", samples(image, label, labels, kind))
    data = made_of(tmp_path, {"source": wds(root), "test": 0})
    assert data.classes == (("ant", "bee", "cow") if form == "words" else ("0", "1", "2"))
    split = data.read_split("train")
    assert sorted(split.labels.tolist()) == [0, 1, 2]
    assert split.images[:].shape == (3, 3, 16, 16)


def test_fields_are_named_where_there_are_several(tmp_path):
    members = samples("input.png", "target.cls", kind="PNG")
    for number in range(3):
        members[f"sample{number:04d}.mask.png"] = picture(0, "PNG")
        members[f"sample{number:04d}.other.cls"] = "0"
    root = pack(tmp_path / "s" / "train-0.tar", members)
    with pytest.raises(RetortError, match="has the images input.png, mask.png: name one in the"):
        settled(wds(root), test=0)
    source = wds(root, image="input.png", label="target.cls")
    data = made_of(tmp_path, {"source": source, "test": 0})
    assert sorted(data.read_split("train").labels.tolist()) == [0, 1, 2]
    with pytest.raises(
        RetortError, match=r"has no image \(its fields are input.png, mask.png, oth"
    ):
        settled(wds(root, image="inptu.png"), test=0)


@pytest.mark.parametrize("name", ["classnames.txt", "classes.txt"])
def test_a_file_beside_the_shards_names_the_classes(name, tmp_path):
    root = pack(tmp_path / "s" / "train-0.tar", samples("jpg", "cls"))
    (root / name).write_text("ant\n\nbee\ncow\nyak\n")
    assert made_of(tmp_path, {"source": wds(root), "test": 0}).classes == (
        "ant",
        "bee",
        "cow",
        "yak",
    )
    definite = settled(wds(root, version="1"), train=3)
    assert list(definite.source["wds"]["folders"]) == ["ant", "bee", "cow", "yak"]
    (root / name).write_text("ant\nant\n")
    with pytest.raises(RetortError, match=f"{name}: 'ant' is there twice; make the names differ"):
        settled(wds(root), test=0)
    (root / name).write_text("ant\nbee\n")
    with pytest.raises(RetortError, match="sample0002' is of class '2', none of the 2 classes"):
        settled(wds(root), test=0)


LAYOUTS = {
    "names": ("train-{}.tar", "val-{}.tar", "test-{}.tar"),
    "folders": ("train/{}.tar", "val/{}.tar", "test/{}.tar"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_shards_of_every_split_are_found(layout, tmp_path):
    for first, name in enumerate(LAYOUTS[layout]):
        pack(tmp_path / "s" / name.format(0), samples("jpg", "cls", first=3 * first))
        pack(tmp_path / "s" / name.format(1), samples("jpg", "cls", first=10 + 3 * first))
    data = made_of(tmp_path, {"source": wds(tmp_path / "s")})
    for split, name in zip(("train", "val", "test"), LAYOUTS[layout], strict=True):
        files = set(data.read_split(split).images.table["file"].to_pylist())
        assert files == {name.format(0), name.format(1)}
        assert len(data.read_split(split).labels) == 6


def test_shards_of_one_kind_are_cut_and_patterns_may_have_braces(tmp_path):
    for number in range(3):
        pack(
            tmp_path / "s" / f"{number:02d}.tar",
            samples("jpg", "cls", (0, 1) * 5, first=10 * number),
        )
    section = settled(wds(tmp_path / "s"), val="10%")
    assert (section.train, section.val, section.test, section.stratified) == (21, 3, 6, True)
    braces = wds(tmp_path / "s", train="{00..01}.tar", test="02.tar")
    section = settled(braces)
    assert (section.train, section.val, section.test, section.stratified) == (20, 0, 10, False)
    with pytest.raises(RetortError, match=r"02.tar: is of two splits; make the patterns"):
        settled(wds(tmp_path / "s", train="*.tar", test="02.tar"))


def test_counts_are_kept_for_the_next_plan(tmp_path, monkeypatch):
    root = pack(tmp_path / "s" / "train-0.tar", samples("jpg", "cls"))
    raw = {"source": wds(root), "test": 0}
    first = made_of(tmp_path, raw)
    assert len(list((tmp_path / ".shards").iterdir())) == 1
    monkeypatch.setattr("pipeline.datasets.wds.Images.read_shards", None)
    plan = planned_of(tmp_path, raw)
    assert plan.refs_by_name["dataset", "d"] == f"dataset/{first.artefact.manifest.key}"


BAD_LABELS = {
    "from one": ((1, 2, 3), "sample0002' is of class '3': the labels are 1 to 3, they start at 1"),
    "beyond": ((0, 1, -1), "sample0002' is of class '-1', none of the 2 classes"),
    "none at 0": ((4, 9, 9), "sample0000' has the least label, 4; labels start at 0"),
    "one": ((0, 0, 0), "every label is '0'; two classes or more are wanted"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_labels_that_are_no_classes_are_refused(case, tmp_path):
    labels, message = BAD_LABELS[case]
    root = pack(tmp_path / "s" / "train-0.tar", samples("jpg", "cls", labels))
    with pytest.raises(RetortError, match=message):
        settled(wds(root), test=0)


def test_labels_from_one_are_refused_of_named_classes_too(tmp_path):
    root = pack(tmp_path / "s" / "train-0.tar", samples("jpg", "cls", (1, 2, 3)))
    source = wds(root, version="1", folders=["a", "b", "c"])
    with pytest.raises(
        RetortError, match="train-0.tar: sample 'sample0002' is of class '3': the la"
    ):
        made_of(tmp_path, {"source": source, "train": 3})


def test_every_faulty_sample_is_named_at_once(tmp_path):
    members = samples("jpg", "cls") | {"a.jpg": picture(0), "b.cls": "1", "c.txt": "x"}
    members |= {"d.jpg": picture(0), "d.json": json.dumps({"caption": "a dog"})}
    root = pack(tmp_path / "s" / "train-0.tar", members)
    with pytest.raises(RetortError) as caught:
        settled(wds(root), test=0)
    for words in (
        "train-0.tar: sample 'a' has no label (its fields are jpg)",
        "sample 'b' has no image (its fields are cls)",
        "sample 'c' has no image (its fields are txt)",
        "sample 'd' has no label under label or cls or class",
    ):
        assert words in str(caught.value)


def test_hidden_members_are_no_samples(tmp_path):
    hidden = {"._sample0000.jpg": b"x", ".DS_Store": b"x", "__MACOSX/sample.jpg": b"x"}
    root = pack(tmp_path / "s" / "train-0.tar", samples("jpg", "cls") | hidden)
    assert settled(wds(root), test=0).train == 3


def test_keys_that_are_twice_or_too_long_are_named_with_their_shards(tmp_path, caplog):
    pack(tmp_path / "s" / "train-0.tar", samples("jpg", "cls"))
    long = "k" * 140
    extra = {f"{long}.jpg": picture(0), f"{long}.cls": "0"}
    root = pack(tmp_path / "s" / "train-1.tar", samples("jpg", "cls", (0, 1)) | extra)
    with caplog.at_level(logging.WARNING, "retort"):
        data = made_of(tmp_path, {"source": wds(root), "test": 0})
    assert len(data.read_split("train").labels) == 6
    assert "key 'sample0000' is in train-0.tar and train-1.tar" in caplog.text
    assert "of 140 characters is in train-1.tar; more than 128" in caplog.text


def test_a_field_that_is_there_twice_is_refused(tmp_path):
    root = pack(tmp_path / "s" / "train-0.tar", samples("jpg", "cls"))
    with tarfile.open(root / "train-0.tar", "a") as tar:
        tar.addfile(tarfile.TarInfo("sample0001.cls"))
    with pytest.raises(RetortError, match="key 'sample0001' has its field 'cls' twice"):
        settled(wds(root), test=0)


def test_no_shards_are_named(tmp_path):
    with pytest.raises(RetortError, match=r"wds.path: .*: holds no shard \(\*.tar\)"):
        settled(wds(tmp_path))
    with pytest.raises(RetortError, match="wds.path: gone does not exist, neither here nor in"):
        settled(wds(Path("gone")))
    with pytest.raises(RetortError, match=r"'\{0..1.tar' is no pattern of shards"):
        settled(wds(tmp_path, train="{0..1.tar"))
    with pytest.raises(RetortError, match=r"'\{a,/b\}.tar' is no pattern of shards"):
        settled(wds(tmp_path, train="{a,/b}.tar"))


def test_a_bad_image_in_a_shard_may_be_left_out(tmp_path):
    members = samples("jpg", "cls") | {"x.jpg": picture(0)[:-200], "x.cls": "1"}
    root = pack(tmp_path / "s" / "train-0.tar", members)
    with pytest.raises(RetortError, match="1 of 4 files cannot be used: .*train-0.tar at byte"):
        made_of(tmp_path, {"source": wds(root), "test": 0})
    section = {"source": wds(root), "test": 0, "on_bad_file": "skip"}
    assert len(made_of(tmp_path, section).read_split("train").labels) == 3
