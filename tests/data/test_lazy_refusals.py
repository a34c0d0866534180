"""Errors in image folders and shards: messages name the fault and the remedy."""

import io
import re
import tarfile
from pathlib import Path

import pytest

from pipeline.errors import RetortError
from tests.helpers.pictures import CLASSES, encoded, folders, made, planned, shards, source


@pytest.fixture
def root(tmp_path) -> Path:
    return folders(folders(tmp_path / "images"), split="val", each=1)


def refused(tmp_path: Path, about: dict, **counts: int) -> str:
    with pytest.raises(RetortError) as caught:
        made(tmp_path, about, **counts).read_split("train").images[:]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_class_names_of_another_number_are_refused_before_a_job_starts(tmp_path):
    with pytest.raises(RetortError, match="names: 2 class names for 3 folders; give one for each"):
        planned(tmp_path, source(tmp_path, names=["a", "b"]))
    with pytest.raises(RetortError, match="names: 2 class names for 1000 folders"):
        planned(tmp_path, source(tmp_path, folders=[], names=["a", "b"]))
    with pytest.raises(RetortError, match="imagefolder.version: give a name"):
        planned(tmp_path, source(tmp_path, version=""))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folders": [*CLASSES[:2], "cat"]}, f"3 class folders, 3 classes: '{CLASSES[2]}'"),
        ({"folders": CLASSES[:2]}, "3 class folders, 2 classes: .* is none of them; complete it"),
        ({"folders": [*CLASSES, "n9"]}, "3 class folders, 4 classes: 'n9' is missing; complete it"),
        ({"folders": []}, "3 class folders, 1000 classes: 'n01491361' is missing"),
        ({"train": "trian"}, "trian: no such folder; check the source's 'path' and 'train'"),
    ],
)
def test_other_folders_than_classes(change, message, root, tmp_path):
    assert re.search(message, refused(tmp_path, source(root, **change)))


def test_numbers_with_a_gap_are_refused(tmp_path):
    root = folders(tmp_path / "v2", ("0", "2", "10"))
    about = source(root, folders=["a", "b", "c"])
    assert "3 numbered folders for 3 classes, not 0 to 2 each once" in refused(tmp_path, about)


def test_too_few_images_are_named(root, tmp_path):
    text = refused(tmp_path, source(root), train=10)
    assert text.startswith("data set d: 13 images asked for, its files hold 12; ask for fewer")


def test_a_file_that_is_no_image_is_named_before_training(root, tmp_path):
    (root / "train" / CLASSES[1] / "page.jpg").write_bytes(b"<html>quota</html>")
    text = refused(tmp_path, source(root))
    assert "page.jpg: is an HTML page; fetch it again" in text


@pytest.mark.parametrize("harm", ["cut", "gone", "grown", "moved"])
def test_a_file_that_changes_later_is_named(harm, root, tmp_path):
    images = made(tmp_path, source(root), train=12, val=0).read_split("train").images
    path = root / images.table["file"][5].as_py()
    data = path.read_bytes()
    if harm == "gone":
        path.unlink()
    elif harm == "moved":
        root.rename(tmp_path / "elsewhere")
    else:
        path.write_bytes(data[:-9] if harm == "cut" else data + b"more")
    said = f"{root}.*: cannot be" if harm == "moved" else f"{path}: (cannot be|.* {len(data)} when)"
    with pytest.raises(RetortError, match=said):
        images[:]


def test_a_damaged_image_is_named(root, tmp_path):
    split = made(tmp_path, source(root), train=12, val=0).read_split("train")
    path = root / split.images.table["file"][5].as_py()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    path.write_bytes(b"GIF8" + bytes(len(data) - 4))
    with pytest.raises(RetortError, match=f"{path}: not a readable image .*; fetch it again"):
        split.images[:]


@pytest.mark.parametrize("keep", ["a member", "half"])
def test_a_shard_that_is_cut_off_is_named(keep, tmp_path):
    packed = shards(shards(tmp_path / "tars"), "val", each=2)
    path = packed / "train-1.tar"
    with tarfile.open(path) as tar:
        last = tar.getmembers()[4]
    size = last.offset if keep == "a member" else last.offset_data + 100
    path.write_bytes(path.read_bytes()[:size])
    text = refused(tmp_path, source(packed, "wds"))
    assert text.startswith(f"{path}: ") and text.endswith("fetch it again")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.cls", b"0", "sample 'x' has no image"),
        ("x.jpg", encoded(0, 0), "sample 'x' has no label"),
        ("x.png", b"<html>", "x.png: is an HTML page"),
    ],
)
def test_a_shard_s_sample_that_lacks_something_is_named(name, content, message, tmp_path):
    packed = shards(tmp_path / "tars")
    with tarfile.open(packed / "train-9.tar", "w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    assert message in refused(tmp_path, source(packed, "wds"), test=0)


def test_a_shard_s_unknown_class_is_named(tmp_path):
    packed = shards(tmp_path / "tars")
    text = refused(tmp_path, source(packed, "wds", folders=list(CLASSES[:2])), test=0)
    assert "is of class '2', none of the 2 classes" in text
