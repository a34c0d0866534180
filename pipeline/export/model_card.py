"""The model card of an export: what the model is, how it was made, what it withstands."""

from pathlib import Path

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.export.finished_model import FinishedModel

TEMPLATES = Path(__file__).parent / "templates"


def write_model_card(model: FinishedModel, library: str, usage: str, folder: Path) -> None:
    """Write ``README.md``, as the Hugging Face Hub reads it.

    Args:
        model: what the card is about.
        library: the library that loads the folder.
        usage: Python that loads it.
        folder: where the card goes.
    """
    header: dict = {"library_name": library, "pipeline_tag": "image-classification"}
    header["tags"] = ["image-classification", "adversarial-robustness", "knowledge-distillation"]
    if model.licence:
        header["license"] = model.licence
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = environment.get_template("model_card.md.j2").render(
        model=model,
        header=yaml.safe_dump(header, sort_keys=False),
        about=describe_training(model),
        usage=usage,
        results=model.results,
    )
    (folder / "README.md").write_text(text)


def describe_training(model: FinishedModel) -> dict[str, str]:
    """The words of the card that come from the model's spec and file."""
    spec, stored = model.artefact.manifest.spec, model.get_classifier_metadata("a model card")
    is_student = model.artefact.manifest.kind == "student"
    name, dataset = model.dataset
    source = dataset.get("source", "")
    source = source if isinstance(source, str) else "+".join(source)
    return {
        "network": stored["model"],
        "origin": "distilled" if is_student else "trained",
        "objective": "+".join(spec.get("objective") or ()) or "from a file",
        "seed": str(spec.get("seed", "none")),
        "data": f"{name} ({source}), {dataset.get('train')} training images",
        "mean": format_numbers(stored["mean"]),
        "std": format_numbers(stored["std"]),
    }


def format_numbers(values: list[float]) -> str:
    """Numbers with four digits after the point."""
    return ", ".join(f"{value:.4f}" for value in values)
