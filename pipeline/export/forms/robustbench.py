"""Files for RobustBench's model zoo: a checkpoint, its entry, and the claim of its model card.

`models/<dataset>/<threat>/<name>.pt` is a state dict where RobustBench looks for it,
`model_info/<dataset>/<threat>/<name>.json` has the fields of its leaderboard, and `<name>.py` the
entry of its zoo. The entry builds the network by retort.
"""

from pathlib import Path

import torch
from torch import nn

from pipeline.errors import RetortError
from pipeline.export.finished_model import FinishedModel
from pipeline.models.classifier import build_classifier
from pipeline.store.artefact import write_json

NEEDED_PACKAGES = ()
THREAT = "Linf"
# Columns that are empty for the standard attack on the model itself, on the whole test set.
OTHER_CONDITIONS = ("variant", "surrogate", "part", "corruption")
ENTRY = '''"""RobustBench's entry of {name}: merge it into the zoo of {dataset}, {threat}."""

from pipeline.models.classifier import build_classifier

models = {{
    {name!r}: {{
        "model": lambda: build_classifier(
            {network!r}, {classes}, {mean}, {std}
        ),
        "gdrive_id": "",  # the checkpoint lies in models/{dataset}/{threat}/
    }}
}}
'''


def write(model: FinishedModel, folder: Path) -> str:
    """Write the three files; the name of the checkpoint.

    Raises:
        RetortError: the network is one of the user's own plug-ins or a CLIP, or resizes its
            images; or the results have no clean accuracy or no standard AutoAttack.
    """
    metadata = model.get_classifier_metadata("robustbench")
    model.check_builtin("robustbench")
    if metadata.get("resize"):
        raise RetortError(f"{model.name}: resizes its images; export it --to onnx")
    dataset, claim = describe_dataset(model), describe_claim(model, metadata)
    entry = ENTRY.format(
        name=model.name,
        dataset=dataset,
        threat=THREAT,
        network=metadata["model"],
        classes=len(model.classes),
        mean=metadata["mean"],
        std=metadata["std"],
    )
    (folder / f"{model.name}.py").write_text(entry)
    info = folder / "model_info" / dataset / THREAT
    write_json(info / f"{model.name}.json", claim)
    weights = Path("models") / dataset / THREAT / f"{model.name}.pt"
    (folder / weights).parent.mkdir(parents=True)
    torch.save(model.module.state_dict(), folder / weights)
    return weights.as_posix()


def describe_dataset(model: FinishedModel) -> str:
    """The source of the data set, as RobustBench names it: "cifar10"."""
    source = model.dataset[1]["source"]
    return source if isinstance(source, str) else next(iter(source))


def describe_claim(model: FinishedModel, metadata: dict) -> dict:
    """The fields of a RobustBench card; accuracies in percent, as texts, and n beside them.

    Raises:
        RetortError: there is no clean accuracy or no standard AutoAttack among the results.
    """
    own = [
        r
        for r in model.results
        if not r["shifted"] and r["epoch"] is None and not any(r[name] for name in OTHER_CONDITIONS)
    ]
    clean = [r for r in own if r["attack"] == "clean"]
    attacked = [r for r in own if r["attack"] == "autoattack"]
    if not clean or not attacked:
        missing = "standard AutoAttack" if clean else "clean accuracy"
        raise RetortError(
            f"{model.name}: its results have no {missing}, which RobustBench asks for; add it to a "
            "suite and 'retort run'"
        )
    strongest = max(attacked, key=lambda r: (r["n"], r["eps"]))
    return {
        "name": model.name,
        "dataset": describe_dataset(model),
        "architecture": metadata["model"],
        "eps": f"{round(255 * strongest['eps'], 4):g}/255",
        "clean_acc": f"{100 * clean[0]['accuracy']:.2f}",
        "reported": f"{100 * strongest['accuracy']:.2f}",
        "autoattack_acc": f"{100 * strongest['accuracy']:.2f}",
        "autoattack_images": strongest["n"],
        "clean_images": clean[0]["n"],
        "additional_data": False,
        "number_forward_passes": 1,
        "link": "",
        "authors": "",
        "venue": "",
    }


def load(path: Path, record: dict) -> nn.Module:
    """The network of the record with the checkpoint's weights."""
    network = record["network"]
    module = build_classifier(
        network["model"], len(record["classes"]), network["mean"], network["std"]
    )
    module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return module
