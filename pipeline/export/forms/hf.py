"""A folder for the Hugging Face Hub: safetensors, ``config.json`` and a model card.

timm's networks are in timm's format, which transformers reads too. Other networks come with a small
module for transformers, ``modeling_retort.py``, which needs retort beside it.
"""

import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.export.finished_model import FinishedModel
from pipeline.export.forms import timm
from pipeline.export.model_card import TEMPLATES, write_model_card
from pipeline.models.classifier import build_classifier
from pipeline.store.artefact import read_json, write_json

NEEDED_PACKAGES = ()
MODULE_FILE = "modeling_retort.py"
CLASS = "RetortForImageClassification"
PREFIX = "classifier."  # of the weights' names, the attribute of that class
BICUBIC = 3  # Pillow's number for it
TIMM_USAGE = """import timm

model = timm.create_model("local-dir:FOLDER", pretrained=True)  # or "hf-hub:OWNER/NAME"
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))"""
TRANSFORMERS_USAGE = """from transformers import AutoModelForImageClassification

# Runs modeling_retort.py, beside which the package retort must be installed.
model = AutoModelForImageClassification.from_pretrained("FOLDER", trust_remote_code=True)
logits = model(pixel_values=images).logits  # images (B,C,H,W) in [0,1]"""


def write(model: FinishedModel, folder: Path) -> str:
    """Write the folder; the name of its weights.

    Raises:
        RetortError: the network is one of the user's own plug-ins, or a CLIP.
    """
    metadata = model.get_classifier_metadata("hf")
    if metadata["model"].startswith(timm.PREFIX):
        timm.write_timm_files(model, metadata, folder)
        write_model_card(model, "timm", TIMM_USAGE, folder)
        return "model.safetensors"
    model.check_builtin("hf")
    weights = {f"{PREFIX}{k}": v.contiguous() for k, v in model.module.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", describe_network(model, metadata))
    write_json(folder / "preprocessor_config.json", describe_preparation(model))
    shutil.copyfile(TEMPLATES / f"{MODULE_FILE}.txt", folder / MODULE_FILE)
    write_model_card(model, "transformers", TRANSFORMERS_USAGE, folder)
    return "model.safetensors"


def describe_network(model: FinishedModel, metadata: dict) -> dict:
    """The content of ``config.json``."""
    module = Path(MODULE_FILE).stem
    auto = {
        "AutoConfig": f"{module}.RetortConfig",
        "AutoModelForImageClassification": f"{module}.{CLASS}",
    }
    return {
        "model_type": "retort",
        "architectures": [CLASS],
        "auto_map": auto,
        "network": metadata["model"],
        "mean": metadata["mean"],
        "std": metadata["std"],
        "resize": metadata.get("resize"),
        "id2label": {str(i): name for i, name in enumerate(model.classes)},
        "label2id": {name: i for i, name in enumerate(model.classes)},
        "dtype": "float32",
    }


def describe_preparation(model: FinishedModel) -> dict:
    """The content of ``preprocessor_config.json``: resize, crop and scale, without normalising."""
    _, height, width = model.shape
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": round(height / model.crop)},
        "resample": BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": False,
    }


def load(path: Path, record: dict) -> nn.Module:
    """The model by timm, or of the folder's weights; code in the folder is not run."""
    if not (path.parent / MODULE_FILE).exists():
        return timm.load(path, record)
    config = read_json(path.parent / "config.json", "export the model again")
    names = config["network"], len(config["id2label"]), config["mean"], config["std"]
    module = build_classifier(*names)
    module.resize = config["resize"]
    weights = load_file(path)
    module.load_state_dict({k.removeprefix(PREFIX): v for k, v in weights.items()})
    return module
