"""ONNX, for onnxruntime and others: images (B,C,H,W) in [0,1] to logits, of any batch B."""

from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.errors import RetortError
from pipeline.export.finished_model import FinishedModel

NEEDED_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
FILE = "model.onnx"
EXAMPLE_IMAGES = 2  # torch takes a batch of one for a fixed size


def write(model: FinishedModel, folder: Path) -> str:
    """Write ``model.onnx``, its weights inside; its name.

    Raises:
        RetortError: torch cannot say some operation of the network in ONNX.
    """
    images = torch.rand(EXAMPLE_IMAGES, *model.shape)
    try:
        torch.onnx.export(
            model.module,
            (images,),
            folder / FILE,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise RetortError(
            f"{model.name}: torch cannot write it as ONNX ({reason}); export it --to torchscript"
        ) from error
    return FILE


def load(path: Path, record: dict) -> nn.Module:
    """The model in onnxruntime, on the CPU."""
    return OnnxModel(path)


class OnnxModel(nn.Module):
    """An ONNX file as a module without gradients: images (B,C,H,W) in [0,1] to logits (B,K)."""

    def __init__(self, path: Path):
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors alone
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,K), on the CPU."""
        (logits,) = self.session.run(None, {"images": x.detach().cpu().numpy()})
        return torch.from_numpy(logits)
