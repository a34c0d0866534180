"""Files that are no images: all found before training, listed at once, left out if asked."""

import json
import logging
from pathlib import Path

import pytest

from pipeline.data import bad_files
from pipeline.data.bad_files import STATE_FILE, find_bad_rows
from pipeline.data.file_index import build_index_table
from pipeline.data.image_folder import format_bad_files, read_images
from pipeline.data.lazy_images import FileImages
from pipeline.errors import RetortError
from tests.data.test_folder_layout import put
from tests.data.test_own_images import own
from tests.helpers.pictures import folders, made, made_of, planned_of, source


@pytest.fixture
def root(tmp_path) -> Path:
    """Ten images of two classes, of which four are bad in different ways."""
    put(tmp_path / "r", *(f"{name}/{i}.jpg" for name in ("cat", "dog") for i in range(5)))
    data = (tmp_path / "r" / "cat" / "0.jpg").read_bytes()
    (tmp_path / "r" / "cat" / "1.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "r" / "cat" / "2.jpg").write_bytes(b"<html>quota</html>")
    (tmp_path / "r" / "dog" / "3.jpg").write_bytes(b"")
    (tmp_path / "r" / "dog" / "4.jpg").unlink()
    (tmp_path / "r" / "dog" / "4.jpg").symlink_to("nowhere.jpg")
    return tmp_path / "r"


WORDS = (
    ("cat/1.jpg", "image file is truncated"),
    ("cat/2.jpg", "is an HTML page"),
    ("dog/3.jpg", "is no image"),
    ("dog/4.jpg", "cannot be read"),
)


def test_all_bad_files_are_listed_at_once(root, tmp_path):
    with pytest.raises(RetortError) as caught:
        made_of(tmp_path, {"source": own(root), "test": 0})
    text = str(caught.value)
    assert text.startswith("data set d: 4 of 10 files cannot be used: ")
    assert text.endswith("fetch them again, delete them, or set datasets.d.on_bad_file: skip")
    for name, words in WORDS:
        assert f"{root / name}: " in text and words in text
    assert "\n" not in text


def test_bad_files_are_left_out_if_asked(root, tmp_path, caplog):
    section = {"source": own(root), "test": 0, "on_bad_file": "skip"}
    with caplog.at_level(logging.WARNING, "retort"):
        data = made_of(tmp_path, section)
    split = data.read_split("train")
    files = split.images.table["file"].to_pylist()
    bad = {name for name, _ in WORDS}
    assert sorted(files) == sorted({f"{c}/{i}.jpg" for c in ("cat", "dog") for i in range(5)} - bad)
    assert split.images[:].shape == (6, 3, 16, 16)
    assert data.artefact.manifest.facts["counts"] == {"train": 6, "val": 0, "test": 0}
    listed = data.artefact.manifest.facts["bad_files"]
    assert len(listed) == 4 and all(any(name in line for line in listed) for name in bad)
    assert caplog.text.count("left out: ") == 4


def test_a_split_without_any_good_file_stops_even_so(tmp_path):
    root = put(tmp_path / "r", "train/a/0.png", "train/b/0.png", "test/a/0.png", "test/b/0.png")
    for name in "ab":
        (root / "test" / name / "0.png").write_bytes(b"<html>")
    with pytest.raises(RetortError, match="data set d: every file of its test split is bad"):
        made_of(tmp_path, {"source": own(root), "on_bad_file": "skip"})


def test_leaving_out_is_in_the_key_and_stopping_is_not(root, tmp_path):
    plain = planned_of(tmp_path, {"source": own(root), "test": 0})
    stop = planned_of(tmp_path, {"source": own(root), "test": 0, "on_bad_file": "stop"})
    skip = planned_of(tmp_path, {"source": own(root), "test": 0, "on_bad_file": "skip"})
    keys = [set(plan.artefacts) for plan in (plain, stop, skip)]
    assert keys[0] == keys[1] != keys[2]


def test_a_set_that_is_read_as_a_whole_cannot_leave_files_out(tmp_path):
    with pytest.raises(RetortError, match="d.on_bad_file: tinyimagenet is read as a whole; drop"):
        planned_of(tmp_path, {"source": "tinyimagenet", "train": 5, "on_bad_file": "skip"})


def test_images_of_no_split_are_looked_at_too(tmp_path):
    """Their header alone is read: one that is cut off passes, a web page does not."""
    root = folders(folders(tmp_path / "images"), split="val", each=1)
    for path in sorted((root / "train").rglob("*.JPEG"))[::2]:
        path.write_bytes(b"<html>")
    with pytest.raises(RetortError, match="data set d: 6 of 15 files cannot be used"):
        made(tmp_path, source(root), train=1, val=0, test=1)


def test_what_is_decoded_once_is_not_decoded_again(root, tmp_path, monkeypatch):
    names = ["cat/0.jpg", "cat/1.jpg", "cat/3.jpg", "cat/4.jpg"]
    sizes = [(root / name).stat().st_size for name in names]
    images = FileImages(root, table_of(names, sizes), 16)
    judged = []

    def judge(images, place, decodes):
        judged.append(place["file"])
        if place["file"] == "cat/3.jpg" and len(judged) < 4:
            raise KeyboardInterrupt  # killed in the second chunk
        return ("cat/1.jpg: cut off" if place["file"] == "cat/1.jpg" else ""), False

    monkeypatch.setattr(bad_files, "CHUNK_ROWS", 2)
    monkeypatch.setattr(bad_files, "judge_image", judge)
    with pytest.raises(KeyboardInterrupt):
        find_bad_rows(images, 4, tmp_path)
    assert json.loads((tmp_path / STATE_FILE).read_text())["rows"] == 2
    judged += ["the first attempt is over"]
    assert find_bad_rows(images, 4, tmp_path) == {1: "cat/1.jpg: cut off"}
    after = judged[judged.index("the first attempt is over") + 1 :]
    assert after == ["cat/3.jpg", "cat/4.jpg"]
    other = FileImages(root, table_of(names[::-1], sizes[::-1]), 16)
    assert find_bad_rows(other, 4, tmp_path) == {2: "cat/1.jpg: cut off"}


def table_of(names, sizes):
    rows = [(name, 0, size, 0, None) for name, size in zip(names, sizes, strict=True)]
    table = build_index_table(rows)
    order = [table["file"].to_pylist().index(name) for name in names]
    return table.take(order)


def test_twenty_files_are_named_and_the_others_counted():
    text = format_bad_files([f"{i}.jpg: is no image" for i in range(23)], 100)
    assert text.startswith("23 of 100 files cannot be used: 0.jpg: is no image, 1.jpg: ")
    assert "19.jpg: is no image, and 3 more; fetch them again, or delete them" in text
    assert format_bad_files(["a: is no image"], 2) == (
        "1 of 2 files cannot be used: a: is no image; fetch it again, or delete it"
    )


def test_images_that_are_read_as_one_array_are_all_judged_too(root):
    files = [(path, 0) for path in sorted(root.rglob("*.jpg"))]
    with pytest.raises(RetortError, match="4 of 10 files cannot be used: .*1.jpg: not a readable"):
        read_images(files, 16)


def test_a_picture_too_large_to_be_one_is_a_bad_file(tmp_path, monkeypatch):
    root = put(tmp_path / "r", "cat/0.png", "dog/0.png")
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)
    with pytest.raises(RetortError, match="2 of 2 files cannot be used: .*is too large .*bomb"):
        made_of(tmp_path, {"source": own(root), "test": 0})
