"""What a folder of images holds, and what is no image."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.folder_layout import (
    check_version,
    compute_version,
    describe_image_folder,
    find_split_folders,
    scan_class_folder,
)
from pipeline.errors import RetortError


def put(root: Path, *names: str, size: tuple[int, int] = (40, 48)) -> Path:
    """Images of one size under some names."""
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(root / name)
    return root


def test_class_folders_alone_are_training_images(tmp_path):
    put(tmp_path, "cat/a.png", "cat/b.PNG", "dog/c.jpg", "größe/d.JPEG")
    found = describe_image_folder(tmp_path)
    assert found.splits == {"train": "."}
    assert found.classes == ("cat", "dog", "größe")
    assert found.counts == {"train": {"cat": 2, "dog": 1, "größe": 1}}
    assert found.suggested_side == 32


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("train", "val", "test"), {"train": "train", "val": "val", "test": "test"}),
        (("Training", "valid", "Test"), {"train": "Training", "val": "valid", "test": "Test"}),
        (("training", "validation"), {"train": "training", "test": "validation"}),
        (("train", "testing"), {"train": "train", "test": "testing"}),
        (("train",), {"train": "train"}),
        (("test",), {"test": "test"}),
    ],
)
def test_split_folders_are_known_by_their_names(folders, splits, tmp_path):
    put(tmp_path, *(f"{folder}/{name}/a.png" for folder in folders for name in ("cat", "dog")))
    found = describe_image_folder(tmp_path)
    assert found.splits == splits
    assert found.counts == {split: {"cat": 1, "dog": 1} for split in splits}


def test_a_class_may_be_called_train(tmp_path):
    assert find_split_folders(put(tmp_path, "train/a.png", "car/b.png")) == {"train": "."}


def test_files_that_are_no_images_are_counted(tmp_path):
    folder = put(tmp_path, "a.jpg", "below/c.jpg")
    for name in ("._a.jpg", ".DS_Store", "Thumbs.db", "desktop.ini", "notes.txt", "x.HEIC", "bare"):
        (folder / name).write_bytes(b"x")
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "link.png").symlink_to(folder / "a.jpg")
    found = scan_class_folder(folder)
    size = (folder / "a.jpg").stat().st_size
    assert found.files == [("a.jpg", size), ("gone.png", 0), ("link.png", size)]
    counts = {"hidden": 4, "folders": 1, ".txt": 1, ".heic": 1, "without suffix": 1}
    assert found.ignored == Counter(counts)


@pytest.mark.parametrize(("side", "suggested"), [(20, 32), (64, 64), (150, 128), (500, 224)])
def test_the_suggested_side_fits_the_images(side, suggested, tmp_path):
    put(tmp_path, "cat/a.png", "dog/b.png", size=(side, side + 9))
    (tmp_path / "dog" / "broken.png").write_bytes(b"no image")
    assert describe_image_folder(tmp_path).suggested_side == suggested


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "holds no folder with images; put them in .*/<class>/"),
        (("a.png",), "holds images, but no folder for each class"),
        (("a/b/c/d.png",), "holds no folder with images"),
        ((".hidden/a.png", "__MACOSX/b.png"), "holds no folder with images"),
    ],
)
def test_a_folder_without_classes_is_refused(names, message, tmp_path):
    with pytest.raises(RetortError, match=message):
        describe_image_folder(put(tmp_path, *names))


def test_no_folder_at_all_is_named(tmp_path):
    with pytest.raises(RetortError, match="here: does not exist; name the folder"):
        describe_image_folder(tmp_path / "here")
    (tmp_path / "file").write_text("x")
    with pytest.raises(RetortError, match="file: is no folder"):
        describe_image_folder(tmp_path / "file")


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / b"cat/\xff.png".decode(errors="surrogateescape")).write_bytes(b"x")
    with pytest.raises(RetortError, match=r"udcff\.png: its name is not UTF-8; rename it"):
        scan_class_folder(tmp_path / "cat")


def test_a_version_is_the_names_and_sizes_in_any_order():
    files = [("cat/a.png", 3), ("dog/b.png", 4)]
    version = compute_version(files)
    assert version == compute_version(reversed(files)) and version.startswith("files-")
    others = ([("cat/a.png", 4), ("dog/b.png", 4)], files[:1], [*files, ("dog/c.png", 4)])
    assert version not in map(compute_version, others)
    check_version(version, files, Path("here"))
    check_version("mine", files[:1], Path("here"))
    with pytest.raises(RetortError, match=f"here: .* the data set's version is {version}; put"):
        check_version(version, files[:1], Path("here"))
