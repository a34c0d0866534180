"""Export and predict from the command line: whole folders, names, prepared images, refusals."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import pipeline
from pipeline.cli.main import main
from pipeline.errors import RetortError
from pipeline.export import folder as export_folder
from pipeline.export.finished_model import open_finished_model
from pipeline.export.image_files import check_image_files, read_image_files
from tests.export.finished import CLASSES, write_student

CONFIG = "datasets: {tiny: {source: cifar10, train: 512, val: 64, test: 64}}\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a student, a configuration that does not name it, and an image."""
    write_student(tmp_path, "resnet8-s2-w8", 32, crop=0.8)
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "photos" / "more").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photos" / "b.png")
    Image.fromarray(pixels[:, ::-1]).save(tmp_path / "photos" / "more" / "a.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(capsys, *arguments: str) -> tuple[int, str]:
    """Status and output of a verb."""
    status = main([*arguments])
    out, err = capsys.readouterr()
    return status, out + err


def test_export_says_what_it_wrote_and_refuses_a_folder_with_files(place, capsys):
    arguments = ("export", "student/adaad-0", "--to", "torchscript", "out/script")
    status, told = call(capsys, *arguments)
    assert status == 0
    assert told.startswith("out/script: adaad-0 as torchscript\n")
    assert "its logits differ by" in told
    record = json.loads((place / "out" / "script" / "retort.json").read_text())
    assert (record["classes"], record["key"]) == (list(CLASSES), "student/ba9876543210")
    status, told = call(capsys, *arguments)
    assert (status, told.count("\n")) == (2, 1)
    assert "is there already; name a new folder" in told


def test_an_empty_folder_is_taken(place, capsys):
    (place / "out").mkdir()
    assert call(capsys, "export", "adaad-0", "--to", "hf", "out")[0] == 0
    assert (place / "out" / "README.md").exists()


def test_nothing_is_left_of_an_export_that_fails(place, monkeypatch):
    """A form whose logits differ, as where an exporter folds something wrongly."""
    model = open_finished_model(place / "store" / "student" / "ba9876543210")

    def load_other(folder):
        return lambda x: torch.zeros(len(x), 3)

    monkeypatch.setattr(export_folder, "load_folder", load_other)
    with pytest.raises(RetortError, match="hf gives other logits, by up to .*nothing is written"):
        export_folder.export_model(model, "hf", place / "out" / "model")
    assert list((place / "out").iterdir()) == []


def test_an_altered_export_is_refused(place, capsys):
    call(capsys, "export", "adaad-0", "--to", "hf", "out")
    (place / "out" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(RetortError, match="model.safetensors: is missing or altered; export"):
        pipeline.load(place / "out")


def test_a_package_that_is_missing_is_one_line(place, capsys, monkeypatch):
    monkeypatch.setattr("pipeline.export.finished_model.is_installed", lambda package: False)
    status, told = call(capsys, "export", "adaad-0", "--to", "onnx", "out")
    assert status == 2
    assert told == (
        "error: onnx: needs onnx, which is not installed; pip install '/path/to/retort[export]'\n"
    )


def test_what_is_no_classifier_is_refused(place, capsys):
    status, told = call(capsys, "export", "dataset/photos", "--to", "onnx", "out")
    assert status == 2
    assert "is a dataset; name a student or a teacher" in told


@pytest.mark.parametrize("word", ["student/adaad-0", "adaad-0", "student/ba9876543210"])
def test_pipeline_loads_a_name(place, word):
    assert pipeline.load(word)(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


def test_pipeline_load_names_what_a_word_means_nothing_in(place):
    with pytest.raises(RetortError, match="adaad-7: means nothing in store"):
        pipeline.load("adaad-7")


def test_predict_prepares_images_as_in_training(place, capsys):
    """50 x 60 pixels at crop 0.8: 40 x 48, of which the middle 32 x 32 is kept."""
    status, told = call(capsys, "predict", "adaad-0", "photos", "--csv")
    assert status == 0
    rows = list(csv.DictReader(io.StringIO(told)))
    assert [row["file"] for row in rows] == ["photos/b.png", "photos/more/a.png"]
    image = Image.open("photos/b.png").resize((40, 48), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.asarray(image.crop((4, 8, 36, 40))).transpose(2, 0, 1).copy())
    with torch.no_grad():
        expected = pipeline.load("adaad-0")(pixels[None].float() / 255).softmax(1)[0]
    found = torch.tensor([float(rows[0][name]) for name in CLASSES])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert rows[0]["prediction"] == CLASSES[expected.argmax()]


def test_predict_prints_a_line_for_each_image(place, capsys):
    lines = call(capsys, "predict", "adaad-0", "photos/b.png", "photos/more")[1].splitlines()
    assert [line.split()[0] for line in lines] == ["photos/b.png", "photos/more/a.png"]
    shown = [float(value) for value in lines[0].split()[2::2]]
    assert shown == sorted(shown, reverse=True)
    assert sum(shown) == pytest.approx(1, abs=0.002)


def test_predict_names_bad_files_and_empty_folders_in_one_line(place, capsys):
    (place / "photos" / "broken.png").write_bytes(b"no image")
    (place / "empty").mkdir()
    for images, message in (
        ("photos", "1 of 3 files cannot be used: photos/broken.png: not a readable image"),
        ("empty", "empty: holds no image"),
        ("gone.png", "gone.png: does not exist; name an image or a folder"),
    ):
        status, told = call(capsys, "predict", "adaad-0", images)
        assert (status, told.count("\n")) == (2, 1)
        assert message in told


def test_files_are_not_blamed_for_a_model_whose_images_are_not_square(place):
    model = open_finished_model(place / "store" / "student" / "ba9876543210")
    with pytest.raises(
        RetortError, match="^adaad-0: takes images of 32 x 48, .*; use pipeline.load"
    ):
        check_image_files(replace(model, shape=(3, 32, 48)), [place / "photos" / "b.png"])


def test_grey_images_have_one_channel(tmp_path):
    """Luminance by Pillow: 0.299 R + 0.587 G + 0.114 B."""
    model = open_finished_model(write_student(tmp_path, "resnet8-s2-w8", 32, channels=1))
    Image.new("RGB", (32, 32), (100, 200, 50)).save(tmp_path / "one.png")
    images = read_image_files(model, [tmp_path / "one.png"])
    assert images.shape == (1, 1, 32, 32)
    assert images.unique().tolist() == pytest.approx([153 / 255])


@pytest.mark.parametrize("name", export_folder.RECORDED)
def test_a_record_that_lacks_something_is_one_line(name, tmp_path):
    record = dict.fromkeys(export_folder.RECORDED, {}) | {"form": "onnx"}
    del record[name]
    (tmp_path / "retort.json").write_text(json.dumps(record))
    with pytest.raises(RetortError, match=f"retort.json: lacks {name}; export the model again"):
        export_folder.load_folder(tmp_path)
