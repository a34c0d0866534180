"""Retort: robust distillation as a graph of cached, content-named artefacts."""

from pathlib import Path


def load(folder: str | Path, plugins: str | Path | None = None):
    """Load a finished teacher, student or CLIP classifier, or one that was exported.

    Returns an ``nn.Module`` in eval mode that maps images (B,C,H,W) in [0,1] to logits (B,K).
    One from ONNX has no gradients.

    Args:
        folder: `store/<kind>/<key>`, or a link to it; or a name in ./store, such as
            `student/adaad-0` or `adaad-0`; or a folder that `retort export` wrote, or a file in it.
        plugins: the folder of your own plug-ins with the model's architecture; by default the one
            that it was made with.

    Raises:
        RetortError: the folder has no manifest, a file in it was altered, the name means nothing,
            or the model's own architecture is gone or has changed.
    """
    from pipeline.export.folder import find_export, load_folder
    from pipeline.models.loading import load_classifier
    from pipeline.store.artefact import open_artefact
    from pipeline.upkeep.code_drift import use_saved_plugins
    from pipeline.upkeep.listing import find_artefacts

    place = Path(folder)
    if (exported := find_export(place)) is not None:
        return load_folder(exported)
    if not place.exists() and Path("store").is_dir():
        place = Path("store") / find_artefacts(Path("store"), str(folder))[0]
    artefact = open_artefact(place)
    own = None if plugins is None else [Path(plugins)]
    use_saved_plugins(artefact.folder, artefact.manifest, own)
    return load_classifier(artefact.get_verified_path("model.safetensors"))
