"""Retort: robust distillation as a graph of cached, content-named artefacts."""

from pathlib import Path


def load(folder: str | Path):
    """Load a finished teacher, student or CLIP classifier from its folder.

    Returns an ``nn.Module`` in eval mode that maps images (B,C,H,W) in [0,1] to logits (B,K).

    Raises:
        RetortError: the folder has no manifest, or a file in it was altered.
    """
    from pipeline.models.loading import load_classifier
    from pipeline.store.artefact import open_artefact

    artefact = open_artefact(Path(folder))
    return load_classifier(artefact.get_verified_path("model.safetensors"))
