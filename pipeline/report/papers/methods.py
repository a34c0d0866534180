"""Methods by the papers' names: what a model's setting must be to stand in a printed row."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.report.papers.networks import PRINTED_NETWORKS, find_family, is_called
from pipeline.report.papers.printed import RowIdentity
from pipeline.report.papers.settings import Setting

REVISION = 3

WHOLE_DARWIN = {"iakd": True, "dbkd": True, "weighting": "mixed", "gamma": 0.5}
WHOLE_DERD = {"self_adversary": True, "expert": True, "harmonise": True, "sga": "decay"}
EXTRACTION_SETS = {"CIFAR-10": "cifar10", "CIFAR-100": "cifar100", "TinyImageNet": "tinyimagenet"}
EXTRACTION_PATTERN = re.compile(r"(\S+), distilled on (\S+)")
EPOCH_PATTERN = re.compile(r"DARWIN, epoch (\d+)")


@dataclass(frozen=True)
class MethodRule:
    """What a printed method asks of a setting.

    Attributes:
        objectives: the training objectives that are the method; an empty name is a model from a
            file.
        options: options of the objective that must have these values.
        traits: fields of the setting that must have these values.
        trained_on: name of the data set that the model learns from, if not that of its row.
        epoch: the epoch whose weights are looked at; None for those that the model exports.
        named: what the model's name is or begins with, before a hyphen; empty for any name.
    """

    objectives: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    traits: Mapping[str, Any] = field(default_factory=dict)
    trained_on: str | None = None
    epoch: int | None = None
    named: str = ""

    def fits(self, setting: Setting, row: RowIdentity) -> bool:
        """Whether a model is made by this method, on the data set of the row."""
        own = self.trained_on or row.dataset
        return (
            setting.objective in self.objectives
            and row.dataset in setting.datasets
            and own in setting.trained_on
            and all(setting.options.get(name) == value for name, value in self.options.items())
            and all(getattr(setting, name) == value for name, value in self.traits.items())
            and (self.epoch is None or self.epoch in setting.kept_epochs)
            and (not self.named or is_called(self.named, setting.name))
        )


STUDENT = {"kind": "student", "is_initialised": False, "has_extra": False, "has_igdm": False}
TEACHER = {"kind": "teacher"}
LINF_OBJECTIVES = {
    "PGD-AT": "pgd_at",
    "SAT": "pgd_at",
    "TRADES": "trades",
    "Nature": "natural",
    **{name: name.lower() for name in ("ARD", "IAD", "RSLAD", "AKD", "AdaAD", "AdaIAD")},
    "CRDND": "crdnd_like",
    "GACD": "gacd_like",
    "DARWIN-LF": "darwin_lf",
    "DFAD": "dfad",
    "ZSKT": "zskt",
    "DFARD": "dfard_like",
    "DFHL_RS": "dfhl_rs",
}
TEACHER_OBJECTIVES: dict[str, tuple[str, ...]] = {
    "teacher": ("pgd_at", "trades", ""),
    "TRADES": ("trades", ""),
    "AT-PRM": ("",),
    "T_nat": ("natural",),
    "T_rob": ("pgd_at",),
    "CLIP": ("", "natural"),
}
DARWIN_PARTS = {  # Table 7 and the slides' study -> options
    "ARKD": {"iakd": False, "dbkd": False},
    "ARKD+IAKD": {"iakd": True, "dbkd": False},
    "ARKD+DBKD": {"iakd": False, "dbkd": True},
    "ARKD+IAKD+DBKD": WHOLE_DARWIN,
    "Uniform Weighting (no weights)": WHOLE_DARWIN | {"weighting": "uniform"},
    "First Term switched on (gamma = 0)": WHOLE_DARWIN | {"gamma": 0.0},
    "Second Term switched on (gamma = 1)": WHOLE_DARWIN | {"gamma": 1.0},
    "Both Terms switched on (gamma = 0.5)": WHOLE_DARWIN,
}
DERD_PARTS = {  # Table 5 -> options of stage II
    "stage-I + stage-II (SA)": {"expert": False, "sga": "none"},
    "stage-I + stage-II (SA & EG)": {"expert": True, "harmonise": False, "sga": "none"},
    "stage-I + stage-II (EG & SA & SGA)": WHOLE_DERD,
}
DAD_OBJECTIVES = {
    **dict.fromkeys(("ViT", "AugReg-ViT", "ResNet50", "ViT-B", "ImageNet"), "natural"),
    **dict.fromkeys(("original", "no teacher"), "natural"),
    **dict.fromkeys(("DAT", "AugReg-ViT + DAT", "ResNet50 DAT", "ViT-B - DAT"), "dat"),
    **dict.fromkeys(("DAD", "AugReg-ViT + DAD", "ResNet50 DAD", "ViT-B - DAD"), "dad"),
    **dict.fromkeys(("VQGAN", "VQGAN - Sample", "VQGAN - Grad"), "dad"),
    **dict.fromkeys(("DAT + DAD", "AugReg-ViT + DAT + DAD"), "dat_dad"),
    "KD": "kd",
    "DIST": "dist",
    "ARD": "ard_dad",
    "RSLAD": "rslad_dad",
}


PUBLISHED_MODELS = {  # methods that are not trained here -> what a teacher from a file is called
    "Advprop": "advprop",
    "AdvProp": "advprop",
    "Fast Advprop": "fast-advprop",
    "Fast AdvProp": "fast-advprop",
    "Debiased": "debiased",
    "Pyramid AT": "pyramid-at",
    "AugReg-ViT + Pyramid AT": "augreg-pyramid-at",
}


def find_rule(paper: str, table: str, row: RowIdentity) -> MethodRule | None:
    """The rule of a printed row's method; None for a method that is none of ours."""
    if not row.student:
        objectives = TEACHER_OBJECTIVES.get(row.method)
        return None if objectives is None else MethodRule(objectives, traits=TEACHER)
    finders = {"darwin": find_darwin_rule, "derd": find_derd_rule, "dad": find_dad_rule}
    return finders.get(paper, find_linf_rule)(table, row)


def find_linf_rule(table: str, row: RowIdentity) -> MethodRule | None:
    """The rule of a method of training against L-infinity attacks."""
    name = LINF_OBJECTIVES.get(row.method)
    return None if name is None else MethodRule((name,), traits=STUDENT)


def find_darwin_rule(table: str, row: RowIdentity) -> MethodRule | None:
    """The rule of a row of DARWIN's tables."""
    if parts := EXTRACTION_PATTERN.fullmatch(row.method):  # Table 6
        own = EXTRACTION_SETS[parts[2]]
        return MethodRule((LINF_OBJECTIVES[parts[1]],), traits=STUDENT, trained_on=own)
    if parts := EPOCH_PATTERN.fullmatch(row.method):  # Table 8
        return MethodRule(("darwin",), WHOLE_DARWIN, STUDENT, epoch=int(parts[1]))
    traits = STUDENT | {"has_extra": table == "4"}
    if row.method in ("DARWIN", *DARWIN_PARTS):
        return MethodRule(("darwin",), DARWIN_PARTS.get(row.method, WHOLE_DARWIN), traits)
    name = LINF_OBJECTIVES.get(row.method)
    return None if name is None else MethodRule((name,), traits=traits)


def find_derd_rule(table: str, row: RowIdentity) -> MethodRule | None:
    """The rule of a row of DERD's tables."""
    if row.method == "stage-I":
        return MethodRule(("",), traits={"kind": "generator", "losses": "", "is_warm": True})
    if row.method in ("DAFL", "CMI"):
        traits = STUDENT | {"losses": row.method.lower()}
        return MethodRule(("data_free_kd",), traits=traits)
    if row.method in ("DERD", "w/o stage-I", *DERD_PARTS):
        traits = STUDENT | {"losses": "", "is_warm": row.method != "w/o stage-I"}
        return MethodRule(("derd",), DERD_PARTS.get(row.method, WHOLE_DERD), traits)
    return find_linf_rule(table, row)


def find_dad_rule(table: str, row: RowIdentity) -> MethodRule | None:
    """The rule of a row of DAD's tables."""
    if row.method in PUBLISHED_MODELS:
        own_name = PUBLISHED_MODELS[row.method]
        return MethodRule(("",), traits=TEACHER, named=own_name)
    if row.method == "Stable-Diffusion":
        return MethodRule(("dad",), traits=STUDENT | {"has_generated_bank": True})
    name = DAD_OBJECTIVES.get(row.method)
    if name is None:
        return None
    traits: dict[str, Any] = STUDENT | {"is_initialised": table == "4"}
    if table == "6" and name == "dad":  # its samples as augmentation alone
        name = "dad_augment"
    if name in ("dad", "dad_augment", "dat_dad"):
        traits["has_attacked_bank"] = row.method != "VQGAN - Sample"
    if name == "natural" and is_transformer(row.student):
        traits["is_augmented"] = row.method != "ViT"  # AugReg's augmentation
    return MethodRule((name,), traits=traits)


def is_transformer(printed: str) -> bool:
    """Whether a printed network is a vision transformer."""
    return find_family(PRINTED_NETWORKS[printed][0]) == "vit"
