"""A folder of own images: what the configuration leaves out is found, whatever they look like."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.config.reader import parse_config
from pipeline.data.imagenet import load_wordnet_ids
from pipeline.errors import RetortError
from tests.data.test_folder_layout import put
from tests.helpers.pictures import made_of


def own(root: Path, **more: object) -> dict:
    return {"imagefolder": {"path": str(root), "size": 16, **more}}


def settled(source: dict, **counts: object):
    raw = {"datasets": {"d": {"source": source, **counts}}}
    return parse_config(raw).datasets["d"]


@pytest.fixture
def pets(tmp_path) -> Path:
    """Twenty cats and ten dogs in class folders."""
    names = [f"cat/{i}.png" for i in range(20)] + [f"dog/{i}.png" for i in range(10)]
    return put(tmp_path / "pets", *names)


@pytest.fixture
def whole(tmp_path) -> Path:
    """Folders for training, validation and testing, with 4, 2 and 3 images of each class."""
    counts = {"train": 4, "valid": 2, "test": 3}
    names = [f"{s}/{c}/{i}.png" for s, n in counts.items() for c in "ab" for i in range(n)]
    return put(tmp_path / "whole", *names)


def test_nothing_but_the_path_is_needed(whole, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "retort.plan"):
        section = settled(own(whole))
    about = section.source["imagefolder"]
    assert (section.train, section.val, section.test) == (8, 4, 6)
    assert (about["train"], about["val"], about["test"]) == ("train", "valid", "test")
    assert tuple(about["folders"]) == ("a", "b") and not section.stratified
    assert f"write 'version: {about['version']}' in the source" in caplog.text
    data = made_of(tmp_path, {"source": own(whole)})
    for split, count in (("train", 8), ("val", 4), ("test", 6)):
        files = data.read_split(split).images.table["file"].to_pylist()
        assert len(files) == count
        assert all(file.startswith(about[split] + "/") for file in files)


def test_test_images_are_cut_from_the_only_folder_class_by_class(pets, tmp_path):
    section = {"source": own(pets), "val": "10%", "test": "20%"}
    data = made_of(tmp_path, section)
    splits = {name: data.read_split(name) for name in ("train", "val", "test")}
    cats = {name: int((s.labels == 0).sum()) for name, s in splits.items()}
    assert {n: len(s.labels) for n, s in splits.items()} == {"train": 21, "val": 3, "test": 6}
    assert cats == {"train": 14, "val": 2, "test": 4}
    files = [f for s in splits.values() for f in s.images.table["file"].to_pylist()]
    assert len(set(files)) == 30
    assert data.artefact.manifest.facts["stratified"] == ["train", "val", "test"]
    again = made_of(tmp_path / "again", section)
    assert again.artefact.manifest.files == data.artefact.manifest.files


def test_a_found_version_is_that_of_the_files_and_nothing_else_moves_it(pets, tmp_path):
    first = settled(own(pets), train="all")
    pets.rename(tmp_path / "elsewhere")
    second = settled(own(tmp_path / "elsewhere"), train=24, test=6, stratified=True)
    assert first.source["imagefolder"]["version"] == second.source["imagefolder"]["version"]
    assert (first.train, first.test, first.stratified) == (24, 6, True)
    put(tmp_path / "elsewhere", "dog/more.png")
    third = settled(own(tmp_path / "elsewhere"), train="all")
    assert third.source["imagefolder"]["version"] != first.source["imagefolder"]["version"]


def test_a_pinned_version_refuses_other_files(pets, tmp_path):
    version = settled(own(pets)).source["imagefolder"]["version"]
    pinned = {"source": own(pets, version=version), "train": "all", "test": 0}
    assert len(made_of(tmp_path, pinned).read_split("train").labels) == 30
    (pets / "dog" / "0.png").unlink()
    with pytest.raises(RetortError, match=f"the data set's version is {version}; put the files"):
        made_of(tmp_path / "again", pinned)


def test_a_definite_configuration_is_planned_without_its_images():
    definite = {"source": own("nowhere", version="1", folders=["a", "b"]), "train": 3, "test": 1}
    assert settled(**definite).train == 3
    assert not settled(own("nowhere", version="1"), train=5).source["imagefolder"]["folders"]


def test_classes_alone_are_found_where_version_and_counts_are_given(pets):
    section = settled(own(pets, version="1", train="."), train=5)
    assert tuple(section.source["imagefolder"]["folders"]) == ("cat", "dog")
    assert section.source["imagefolder"]["test"] == "val"


def test_numbered_classes_are_in_the_order_of_numbers(tmp_path):
    root = put(tmp_path / "digits", *(f"{n}/a.png" for n in range(11)))
    found = settled(own(root), train="all", test=0).source["imagefolder"]["folders"]
    assert list(found) == [str(n) for n in range(11)]


REFUSED = {
    "train: 31": (
        {"train": 31},
        "datasets.d.train: 31 images asked for, imagefolder has 30; ask for fewer",
    ),
    "train: 20, test: 11": (
        {"train": 20, "test": 11},
        "datasets.d.train: 20 images asked for, imagefolder has 30, and other splits take 11",
    ),
    "val: all": ({"val": "all"}, "datasets.d.val: all: imagefolder has no images of its own for"),
    "test: all": ({"train": 9, "test": "all"}, "datasets.d.test: all: imagefolder has no images"),
    "val: 100%": ({"val": "100%", "test": 0}, "datasets.d.train: no images are left for it"),
    "val: 101%": ({"val": "101%"}, "datasets.d.val: a number of images, 'all', or a share"),
    "train: most": ({"train": "most"}, "datasets.d.train: a number of images, 'all', or a share"),
    "train: yes": ({"train": True}, "datasets.d.train: a number of images, 'all', or a share"),
    "train: 0": ({"train": 0}, "datasets.d.train: 0 images; ask for some"),
}


@pytest.mark.parametrize("asked", REFUSED)
def test_counts_that_do_not_fit_are_refused(asked, pets):
    counts, message = REFUSED[asked]
    with pytest.raises(RetortError) as caught:
        settled(own(pets), **counts)
    assert str(caught.value).startswith(message)


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(RetortError, match=r"datasets.d.source.imagefolder.path: gone does not exi"):
        settled(own("gone"), train="all")


@pytest.mark.parametrize("kind", ["imagefolder", "wds"])
def test_places_of_splits_are_below_the_path(kind):
    with pytest.raises(
        RetortError, match=f"d.source.{kind}.test: '/else' is not below the path; w"
    ):
        settled({kind: {"path": ".", "test": "/else"}}, train="all")


def test_one_class_and_a_part_of_imagenet_are_refused(tmp_path):
    with pytest.raises(RetortError, match="holds one class folder, 'cat'; two or more are wanted"):
        settled(own(put(tmp_path / "one", "cat/a.png")))
    few = load_wordnet_ids()[:2]
    root = put(tmp_path / "few", *(f"{name}/a.png" for name in few))
    pasted = f"say that these are all: folders: \\[{', '.join(few)}\\]"
    with pytest.raises(RetortError, match=pasted):
        settled(own(root))
    section = settled(own(root, folders=list(few)), train="all", test=0)
    assert section.train == 2


def test_empty_class_folders_are_named_all_at_once(pets):
    (pets / "bird").mkdir()
    put(pets, "fish/below/a.png")
    message = "2 class folders hold no image: 'bird', 'fish'; move the images out"
    with pytest.raises(RetortError, match=message):
        settled(own(pets))


def test_a_class_may_lack_test_images_but_not_training_images(whole, tmp_path, caplog):
    put(whole, "train/c/0.png")
    (whole / "test" / "c").mkdir()
    with caplog.at_level(logging.INFO, "retort"):
        data = made_of(tmp_path, {"source": own(whole)})
    assert data.classes == ("a", "b", "c")
    assert len(data.read_split("test").labels) == 6
    assert "no images of 1 classes: c" in caplog.text
    put(whole, "test/d/0.png")
    with pytest.raises(RetortError, match="3 classes: 'd' is none of them"):
        settled(own(whole))


# What images look like


def as_saved(root: Path, name: str, image: Image.Image, **more: object) -> None:
    root.mkdir(parents=True, exist_ok=True)
    image.save(root / name, **more)


def test_images_of_every_size_and_mode_are_read(tmp_path):
    cat, rng = tmp_path / "odd" / "cat", np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (90, 33, 3), np.uint8))
    as_saved(cat, "a.JPG", photo)
    as_saved(cat, "b.jpeg", photo.convert("CMYK").resize((7, 9)))
    as_saved(cat, "c.png", photo.convert("L"))
    as_saved(cat, "d.png", photo.convert("RGBA"))
    as_saved(cat, "e.PNG", photo.convert("P"), transparency=bytes(range(256)))
    as_saved(cat, "f.png", photo.convert("1"))
    as_saved(cat, "g.webp", photo)
    as_saved(cat, "h.bmp", photo.resize((300, 5)))
    put(tmp_path / "odd", "dog/a.png")
    data = made_of(tmp_path, {"source": own(tmp_path / "odd"), "test": 0})
    images = data.read_split("train").images[:]
    assert images.shape == (9, 3, 16, 16) and images.dtype == torch.uint8


def test_as_seen_turns_scales_and_fills(tmp_path):
    root = tmp_path / "odd"
    halves = np.zeros((32, 32, 3), np.uint8)
    halves[:16] = 255  # white above, black below
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it by 90 degrees clockwise: white on the right
    as_saved(root / "cat", "turned.png", Image.fromarray(halves), exif=exif)
    as_saved(root / "cat", "deep.png", Image.fromarray(np.full((32, 32), 0x8000, np.uint16)))
    clear = np.zeros((32, 32, 4), np.uint8)
    as_saved(root / "dog", "clear.png", Image.fromarray(clear))
    source = own(root, decode="as_seen", crop=1.0)
    split = made_of(tmp_path, {"source": source, "test": 0}).read_split("train")
    files = [Path(f).name for f in split.images.table["file"].to_pylist()]
    read = dict(zip(files, split.images[:], strict=True))
    assert (read["turned.png"][:, :, 10:] == 255).all() and (
        read["turned.png"][:, :, :6] == 0
    ).all()
    assert (read["deep.png"] == 0x80).all()
    assert (read["clear.png"] == 255).all()


def test_plain_decoding_says_what_it_does_not_do(tmp_path, caplog):
    root = put(tmp_path / "odd", "cat/a.png", "dog/b.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    as_saved(root / "cat", "turned.jpg", Image.new("RGB", (20, 30)), exif=exif)
    with caplog.at_level(logging.INFO, "retort"):
        made_of(tmp_path, {"source": own(root), "test": 0})
    assert "1 images lie on their side" in caplog.text
    as_saved(root / "cat", "deep.png", Image.fromarray(np.full((8, 8), 40000, np.uint16)))
    with pytest.raises(RetortError, match=r"deep\.png: .*more than 8 bits a pixel: convert it, or"):
        made_of(tmp_path / "again", {"source": own(root), "test": 0})
    with pytest.raises(RetortError, match="decode: 'seen' is unknown; give plain or as_seen"):
        settled(own(root, decode="seen"))


def test_names_of_other_classes_are_refused_with_the_remedy(pets):
    with pytest.raises(RetortError, match="for 1000 folders; give one for each, and your own"):
        settled(own(pets, names=["a cat", "a dog"]))


def test_ignored_files_are_in_the_log(pets, tmp_path, caplog):
    for name in ("._0.png", ".DS_Store", "notes.txt"):
        (pets / "cat" / name).write_bytes(b"x")
    with caplog.at_level(logging.INFO, "retort"):
        made_of(tmp_path, {"source": own(pets)})
    assert ".: ignored: 1 .txt, 2 hidden" in caplog.text
