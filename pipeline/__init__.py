"""Retort: robust distillation as a graph of cached, content-named artefacts."""

from pathlib import Path


def load(folder: str | Path, plugins: str | Path | None = None):
    """Load a finished teacher, student or CLIP classifier from its folder.

    Returns an ``nn.Module`` in eval mode that maps images (B,C,H,W) in [0,1] to logits (B,K).

    Args:
        folder: `store/<kind>/<key>`, or a link to it.
        plugins: the folder of your own plug-ins with the model's architecture; by default the one
            that it was made with.

    Raises:
        RetortError: the folder has no manifest, a file in it was altered, or the model's own
            architecture is gone or has changed.
    """
    from pipeline.models.loading import load_classifier
    from pipeline.store.artefact import open_artefact
    from pipeline.upkeep.code_drift import use_saved_plugins

    artefact = open_artefact(Path(folder))
    own = None if plugins is None else [Path(plugins)]
    use_saved_plugins(artefact.folder, artefact.manifest, own)
    return load_classifier(artefact.get_verified_path("model.safetensors"))
