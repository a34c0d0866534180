"""Networks by the papers' names and by ours."""

import re

REVISION = 2

PRINTED_NETWORKS: dict[str, tuple[str, ...]] = {  # as printed -> our names for it
    **dict.fromkeys(("RN-18", "ResNet-18", "ResNet18"), ("resnet18", "timm/resnet18")),
    **dict.fromkeys(("RN34", "ResNet-34", "ResNet34"), ("resnet34", "timm/resnet34")),
    **dict.fromkeys(("RN50", "ResNet50", "RN50 + AugMix"), ("resnet50", "timm/resnet50")),
    **dict.fromkeys(
        ("MN-V2", "MNV2", "MobileNet2", "MobileNetV2"), ("mobilenetv2", "timm/mobilenetv2_100")
    ),
    **dict.fromkeys(("WRN-34-10", "WRN-34"), ("wrn-34-10",)),
    **dict.fromkeys(("WRN-34-20", "WRN3420"), ("wrn-34-20",)),
    **dict.fromkeys(
        ("ViT-B/16", "ViT-B", "ViT-B + DAT"), ("timm/vit_base_patch16_224", "vit-base-p4")
    ),
    **dict.fromkeys(("ViT-S", "ViT_s"), ("timm/vit_small_patch16_224",)),
    "DeiT-S": ("timm/deit_small_patch16_224", "vit-small-p4"),
    **dict.fromkeys(("CLIP-ViT-L/14", "CLIP-ViT-L"), ("ViT-L-14-quickgelu", "ViT-L-14")),
    "CLIP-RN101": ("RN101-quickgelu", "RN101"),
}
TEACHERS_FROM_FILES = {"DrViT-S": "drvit"}  # as printed -> its name; no package has the network
FAMILY_PATTERN = re.compile(r"(?:timm/)?([a-z]+)")
PAIR_PATTERN = re.compile(r"T_nat (\S+) \+ T_rob (\S+)")  # DERD's two teachers


def is_network(printed: str, model: str) -> bool:
    """Whether our model is the printed network; options behind a plus do not count."""
    return model.partition("+")[0] in PRINTED_NETWORKS.get(printed, ())


def is_called(name: str, own_name: str) -> bool:
    """Whether a model's own name is this one, or begins with it before a hyphen."""
    return f"{own_name}-".startswith(f"{name}-")


def find_family(model: str) -> str:
    """The family of a network by our name: ``resnet`` of ``timm/resnet18``; empty without one."""
    found = FAMILY_PATTERN.match(model.lower())
    return found[1] if found else ""


def is_family(printed: str, model: str) -> bool:
    """Whether our model is of the printed network's family."""
    names = PRINTED_NETWORKS.get(printed, ())
    return find_family(model) in {find_family(name) for name in names}


def list_printed_teachers(printed: str) -> dict[str, str]:
    """The printed teachers' networks by role; ``teacher`` where the paper has one."""
    if pair := PAIR_PATTERN.fullmatch(printed):
        return {"natural": pair[1], "robust": pair[2]}
    return {"teacher": printed} if printed else {}
