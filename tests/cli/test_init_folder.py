"""The verb `init`: presets, a folder of images, and what it refuses."""

import pytest
import yaml
from PIL import Image

from pipeline.cli import image_config
from pipeline.cli.main import main
from pipeline.planning.graph import make_plan_from_files

SHADE = {"cat": 60, "dog": 180}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder that this process stands in, on a machine without a GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(image_config, "list_gpus", list)
    return tmp_path


def write_images(folder, classes: dict[str, int], each: int = 10, side: int = 48) -> None:
    """Class folders of plain images."""
    for name, shade in classes.items():
        (folder / name).mkdir(parents=True)
        for i in range(each):
            Image.new("RGB", (side, side), (shade, i, 0)).save(folder / name / f"{i}.png")


def read_error(capsys) -> str:
    """The error line that was printed."""
    return capsys.readouterr().err.removeprefix("error: ").rstrip()


def test_images_make_a_configuration_that_plans(here, capsys):
    write_images(here / "photos", SHADE)
    (here / "photos" / "cat" / ".DS_Store").write_bytes(b"x")
    (here / ".gitignore").write_text("notes\n/data/\n")
    assert main(["init", "--images", "photos"]) == 0
    assert "config.yaml: written" in capsys.readouterr().out
    text = (here / "config.yaml").read_text()
    assert "2 classes, 20 images; ignored: 1 hidden" in text
    assert "# train: cat 10, dog 10" in text
    assert "they have up to 32" not in text
    plan = make_plan_from_files(here / "config.yaml")
    spec = plan.artefacts[plan.refs_by_name["dataset", "photos"]].spec
    assert (spec["train"], spec["val"], spec["test"]) == (14, 2, 4)
    ignored = (here / ".gitignore").read_text().splitlines()
    assert ignored == ["notes", "/data/", "/store/", "/logs/", "/.snakemake/"]


def test_splits_large_images_and_names_that_yaml_would_turn(here):
    for split in ("train", "test"):
        write_images(here / "on" / split, SHADE, each=3, side=130)
    assert main(["init", "--images", "on", "new"]) == 0
    raw = yaml.safe_load((here / "new" / "config.yaml").read_text())
    assert list(raw["datasets"]) == ["on"]
    section = raw["datasets"]["on"]
    assert section["source"]["imagefolder"]["path"] == str(here / "on")
    assert (section["train"], section["val"], section["test"]) == ("all", "10%", "all")
    assert "they have up to 128, which takes longer" in (here / "new/config.yaml").read_text()


def test_part_of_imagenet_lists_its_classes(here):
    write_images(here / "photos", {"n01440764": 10, "n01443537": 90})
    assert main(["init", "--images", "photos"]) == 0
    assert "folders: [n01440764, n01443537]" in (here / "config.yaml").read_text()
    make_plan_from_files(here / "config.yaml")


def test_a_gpu_is_used(here, monkeypatch):
    write_images(here / "photos", SHADE)
    monkeypatch.setattr(image_config, "list_gpus", lambda: ["GPU-1"])
    assert main(["init", "--images", "photos"]) == 0
    assert yaml.safe_load((here / "config.yaml").read_text())["device"] == "cuda"


@pytest.mark.parametrize(
    ("train", "batch"), [(0, 2), (7, 2), (20, 4), (80, 16), (511, 64), (512, 128), (10**6, 128)]
)
def test_batches_make_several_steps_an_epoch(train, batch):
    assert image_config.choose_batch(train) == batch


def test_presets(here, capsys):
    assert main(["init", "--list"]) == 0
    listed = capsys.readouterr().out
    assert "demo" in listed
    assert "derd-fashion   " in listed
    assert main(["init", "--preset", "derd-fashion"]) == 0
    make_plan_from_files(here / "config.yaml")
    capsys.readouterr()
    assert main(["init"]) == 2
    assert read_error(capsys) == "config.yaml: exists already; move it, or give another folder"
    assert main(["init", "--preset", "derd-fashon", "new"]) == 2
    assert "did you mean 'derd-fashion'?; see 'retort init --list'" in read_error(capsys)


def test_many_classes_and_a_name_of_two_lines_are_one_comment(here):
    write_images(here / "photos", {f"c{i:02d}": i for i in range(25)} | {"a\nb": 0}, each=2)
    assert main(["init", "--images", "photos"]) == 0
    (line,) = [x for x in (here / "config.yaml").read_text().splitlines() if "# train: " in x]
    assert line.strip().startswith("# train: a_b 2, c00 2, ")
    assert line.endswith(", c18 2, and 6 more")
    make_plan_from_files(here / "config.yaml")


def test_a_file_is_no_folder_to_begin_in(here, capsys):
    (here / "notes").write_text("")
    assert main(["init", "notes"]) == 2
    assert read_error(capsys) == "notes: is no folder; name one, which may be new"


def test_what_is_no_folder_of_images(here, capsys):
    assert main(["init", "--images", "photos"]) == 2
    assert read_error(capsys).startswith("photos: does not exist")
    (here / "photos").mkdir()
    assert main(["init", "--images", "photos"]) == 2
    assert "holds no folder with images" in read_error(capsys)
    assert not (here / "config.yaml").exists()
