"""BatchNorm over the rows of all ranks on any device; torch's own needs a GPU."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core.collectives import all_reduce_sum, get_world_size

REVISION = 1

BATCHNORM_LAYERS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class PortableSyncBatchNorm(nn.Module):
    """A BatchNorm over all ranks, (B,C,…) to (B,C,…); its state has the names of torch's layer.

    In training, mean and variance are those of all ranks' rows together, and the gradients pass
    through them. With one process it normalises as torch does.
    """

    has_auxiliary_copy: ClassVar[bool] = True  # DARWIN's auxiliary branch copies the layer

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.eps, self.momentum, self.training = layer.eps, layer.momentum, layer.training
        self.weight, self.bias = layer.weight, layer.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(layer, name))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` normalised over all dimensions but the second."""
        uses_batch_statistics = self.training or self.running_mean is None
        if not uses_batch_statistics:
            statistics = self.running_mean, self.running_var
            return F.batch_norm(x, *statistics, self.weight, self.bias, False, 0.0, self.eps)
        reduced_dims, shape = [d for d in range(x.ndim) if d != 1], [1, -1, *[1] * (x.ndim - 2)]
        upcast = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        count = get_world_size() * x.numel() // x.shape[1]
        mean = all_reduce_sum(upcast.sum(reduced_dims)) / count
        centred = upcast - mean.view(shape)
        var = all_reduce_sum(centred.square().sum(reduced_dims)) / count
        self.update_running_statistics(mean.detach(), var.detach() * count / max(count - 1, 1))
        y = centred * torch.rsqrt(var + self.eps).view(shape)
        if self.weight is not None:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)

    @torch.no_grad()
    def update_running_statistics(self, mean: Tensor, var: Tensor) -> None:
        """Move the running statistics towards a batch's, (C,) each."""
        if self.running_mean is None:
            return
        self.num_batches_tracked += 1
        momentum = self.momentum if self.momentum is not None else 1 / int(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        self.running_var.lerp_(var.to(self.running_var), momentum)


def convert_sync_batchnorm(network: object, device: str) -> None:
    """Replace every BatchNorm in a network by a layer over all ranks; on a GPU, by torch's own.

    Anything that is no ``nn.Module``, as most objectives, is left unchanged.
    """
    if not isinstance(network, nn.Module):
        return
    if device == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return
    for module in list(network.modules()):
        for name, layer in module.named_children():
            if isinstance(layer, BATCHNORM_LAYERS):
                setattr(module, name, PortableSyncBatchNorm(layer))
