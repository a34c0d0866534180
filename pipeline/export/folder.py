"""An export's folder: written whole or not at all, and read back by what it says of itself."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from pipeline.discovery import list_builtin_names, load_plugin
from pipeline.errors import RetortError
from pipeline.export.finished_model import FinishedModel, check_packages, measure_difference
from pipeline.store.artefact import compute_sha256, read_json, write_json

RECORD_FILE = "retort.json"  # what an export says of itself
RECORDED = ("form", "classes", "shape", "file", "files")  # what loading reads of it
FORMS = "export.forms"
DEEPEST = 4  # folders between an export's own and any of its files, itself among them
CHECKED_IMAGES = 8
TOLERANCE = 1e-4  # of a logit, relative to the largest one where that is above 1


def list_forms() -> tuple[str, ...]:
    """The names of all forms."""
    return list_builtin_names(FORMS)


def export_model(model: FinishedModel, form: str, folder: Path) -> float:
    """Write a form of a model into a folder, and load it back.

    Returns the largest difference between the logits of the model and of what was written, on
    eight random images.

    Raises:
        RetortError: the folder holds something, the form cannot hold the model, its package is
            not installed, or the logits differ by more than ``TOLERANCE``.
    """
    module = load_plugin(FORMS, form)
    check_packages(form, *module.NEEDED_PACKAGES)
    with write_folder(folder) as temporary:
        main_file = module.write(model, temporary)
        written = sorted(path for path in temporary.rglob("*") if path.is_file())
        sums = {path.relative_to(temporary).as_posix(): compute_sha256(path) for path in written}
        record = describe_export(model, form) | {"file": main_file, "files": sums}
        write_json(temporary / RECORD_FILE, record)
        images = torch.rand(
            (CHECKED_IMAGES, *model.shape), generator=torch.Generator().manual_seed(0)
        )
        difference, largest = measure_difference(model.module, load_folder(temporary), images)
        if not difference <= TOLERANCE * max(1.0, largest):
            raise RetortError(
                f"{folder}: {form} gives other logits, by up to {difference:.2g}; nothing is "
                "written; export another form"
            )
    return difference


def describe_export(model: FinishedModel, form: str) -> dict:
    """What any reader of an export needs to know, whatever its form."""
    manifest = model.artefact.manifest
    return {
        "form": form,
        "name": manifest.name,
        "key": f"{manifest.kind}/{manifest.key}",
        "classes": list(model.classes),
        "shape": list(model.shape),
        "crop": model.crop,
        "decode": model.decode,
        **model.describe_network(),
    }


@contextmanager
def write_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder``, renamed to it at the end of the block.

    If the block raises, the temporary folder is removed and there is none under the final name.

    Raises:
        RetortError: ``folder`` is a file, or holds files.
    """
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RetortError(f"{folder}: is there already; name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        temporary.mkdir()
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def find_export(path: Path) -> Path | None:
    """The folder of the export that a path is, or is a file of; None if it is of none."""
    places = [path] if path.is_dir() else []
    if path.is_file():
        places = list(path.absolute().parents[:DEEPEST])
    return next((place for place in places if (place / RECORD_FILE).is_file()), None)


def load_folder(folder: Path) -> nn.Module:
    """The model in an export: images (B,C,H,W) in [0,1] to logits (B,K), in eval mode.

    Raises:
        RetortError: a file is missing or altered, or the form's package is not installed.
    """
    record = read_json(folder / RECORD_FILE, "export the model again")
    if lacking := [name for name in RECORDED if name not in record]:
        raise RetortError(
            f"{folder / RECORD_FILE}: lacks {', '.join(lacking)}; export the model again"
        )
    if record.get("form") not in list_forms():
        known = ", ".join(list_forms())
        raise RetortError(f"{folder / RECORD_FILE}: form: known are {known}; export it again")
    for name, digest in record["files"].items():
        if not (folder / name).is_file() or compute_sha256(folder / name) != digest:
            raise RetortError(f"{folder / name}: is missing or altered; export the model again")
    module = load_plugin(FORMS, record["form"])
    check_packages(record["form"], *module.NEEDED_PACKAGES)
    return module.load(folder / record["file"], record).eval()
