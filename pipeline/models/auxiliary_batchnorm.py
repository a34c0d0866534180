"""A second BatchNorm branch for any network, kept outside the network."""

import copy
from itertools import chain

from torch import Tensor, nn
from torch.func import functional_call

REVISION = 1

BATCHNORM_LAYERS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class AuxiliaryBatchNorm(nn.Module):
    """Auxiliary affine parameters and running statistics for every BatchNorm of a student.

    DARWIN (Dong et al., CVPR 2025, Sec. 3) sends targeted samples through BatchNorms of their own,
    as AdvProp does (Xie et al., CVPR 2020). The student itself is unchanged and holds only the
    main branch, so that its moving average, checkpoint and export need no conversion; all other
    weights are shared. A call with a student and images runs the student on the auxiliary branch;
    the modes (train or eval) are those of the student's own layers.

    The auxiliary tensors start as copies of the student's. A student without BatchNorm has one
    branch, and the call is the student's own forward.
    """

    def __init__(self, student: nn.Module):
        super().__init__()
        self.layers = nn.ModuleDict(
            {
                name.replace(".", "/"): copy.deepcopy(layer)
                for name, layer in student.named_modules()
                if isinstance(layer, BATCHNORM_LAYERS)
                or getattr(layer, "has_auxiliary_copy", False)
            }
        )

    def collect_tensors(self) -> dict[str, Tensor]:
        """The auxiliary parameters and statistics under the names they replace in the student."""
        return {
            f"{name.replace('/', '.')}.{key}": tensor
            for name, layer in self.layers.items()
            for key, tensor in chain(
                layer.named_parameters(recurse=False), layer.named_buffers(recurse=False)
            )
        }

    def forward(self, student: nn.Module, x: Tensor) -> Tensor:
        """Logits (B,K) of images (B,C,H,W) on the auxiliary branch."""
        return functional_call(student, self.collect_tensors(), (x,))
