"""Any model of timm, with random weights: ``timm/<name>``, such as ``timm/resnet50``.

``timm/vit_base_patch16_224+drop_path=0.25`` drops residual branches in training, more of them
the deeper they lie (stochastic depth; Huang et al., ECCV 2016).
"""

import difflib
import re

from torch import Tensor, nn

from pipeline.errors import RetortError

REVISION = 1

NAME_PATTERN = re.compile(r"timm/(?P<name>[\w.]+)(?:\+drop_path=(?P<drop>0?\.\d+))?")
NAME_FORMAT = "timm/<timm's name>[+drop_path=0.1]"


class TimmModel(nn.Module):
    """A timm model behind this package's protocol; its last layer is the head.

    ``side`` is the only image side it takes; None if it takes any.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        pretrained_config = model.pretrained_cfg
        self.side = (
            pretrained_config["input_size"][-1]
            if pretrained_config.get("fixed_input_size")
            else None
        )

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features (B,D) of normalised images of the model's own size."""
        return self.model.forward_head(self.model.forward_features(x), pre_logits=True).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        """Logits (B,K) of penultimate features."""
        last = self.model.get_classifier()
        last = getattr(last, "fc", last)  # a few models return a head that also pools
        if isinstance(last, nn.Conv2d):
            return last(features[:, :, None, None]).flatten(1)
        return last(features)


def build(name: str, classes: int, channels: int = 3) -> nn.Module:
    """The network called ``name``, never with downloaded weights.

    Raises:
        RetortError: timm does not know the name or its tag, or the model has not exactly one
            head (DeiT's and others' distilled forms, CrossViT, VOLO, bare encoders).
    """
    import timm  # seconds to import, and the plan reads every family

    timm_name, drop = NAME_PATTERN.fullmatch(name).groups()
    rate = {"drop_path_rate": float(drop)} if drop else {}
    if not timm.is_model(timm_name):
        (near,) = difflib.get_close_matches(timm_name, timm.list_models(), n=1, cutoff=0)
        raise RetortError(f"model '{name}': timm has no '{timm_name}'; did you mean 'timm/{near}'?")
    try:
        size = {"num_classes": classes, "in_chans": channels}
        model = timm.create_model(timm_name, pretrained=False, **size, **rate)
    except TypeError as error:
        raise RetortError(
            f"model '{name}': it has no branches to drop; drop '+drop_path'"
        ) from error
    except RuntimeError as error:
        raise RetortError(f"model '{name}': timm: {error}; drop what follows the dot") from error
    if not hasattr(model, "get_classifier"):
        raise RetortError(f"model '{name}': it is an encoder without classes; name a classifier")
    last, aux_head = model.get_classifier(), getattr(model, "aux_head", None)
    if not isinstance(last, nn.Module) or isinstance(last, nn.ModuleList) or aux_head is not None:
        raise RetortError(f"model '{name}': it ends in several heads; name a model with one")
    return TimmModel(model)
