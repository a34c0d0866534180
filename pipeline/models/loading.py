"""Saved classifiers of any kind, loaded by the kind that their file states."""

from pathlib import Path

from torch import nn

from pipeline.errors import RetortError
from pipeline.models import classifier
from pipeline.models.classifier import MODEL_FILE, read_metadata
from pipeline.store.artefact import open_artefact

REVISION = 1


def load_classifier(path: Path) -> nn.Module:
    """Any saved classifier, in eval mode, on the CPU.

    The code that loads a CLIP counts in the key of the artefact that holds the file, not in the
    keys of those that read it. open_clip is imported only for a CLIP.

    Raises:
        RetortError: the file is no model of ours.
    """
    kind = read_metadata(path)["kind"]
    if kind == "classifier":
        return classifier.load(path).eval()
    if kind == "clip":
        from pipeline.models import clip

        return clip.load(path).eval()
    if kind == "clip-tuned":
        from pipeline.models import clip_tuned

        return clip_tuned.load(path).eval()
    raise RetortError(f"{path}: holds '{kind}', which is no classifier; name another file")


def load_teacher(folder: Path, device: str, file: str = MODEL_FILE) -> nn.Module:
    """A finished classifier, or the weights in ``file`` beside it, frozen, in eval mode."""
    model = load_classifier(open_artefact(folder).get_verified_path(file))
    return model.to(device).requires_grad_(False)
