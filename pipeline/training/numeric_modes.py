"""How a GPU rounds and chooses its algorithms: set once, when a job starts.

This module has no REVISION: the modes are in the key, as fields of the recipe.
"""

import os
from collections.abc import Mapping
from typing import Any

import torch

CUBLAS_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
CUBLAS_WORKSPACE = ":4096:8"  # with which cuBLAS promises the same sums in every run


def set_numeric_modes(recipe: Mapping[str, Any]) -> None:
    """Set torch's modes as a job's recipe says.

    What has no recipe, such as a bank or an evaluation, computes in full precision and takes those
    of cuDNN's algorithms that give the same sums in every run. Call it before the first use of a
    GPU. On a CPU only ``deterministic`` means anything.
    """
    tf32, deterministic = recipe.get("tf32", False), recipe.get("deterministic", False)
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = recipe.get("cudnn_benchmark", False)
    torch.backends.cudnn.deterministic = deterministic or not recipe
    if deterministic:
        os.environ[CUBLAS_VARIABLE] = CUBLAS_WORKSPACE
    torch.use_deterministic_algorithms(deterministic)
