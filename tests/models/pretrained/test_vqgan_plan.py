"""A plan looks into a discretizer's file: shape, missing tensors, sets of weights."""

import pytest
import torch

from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from tests.models.pretrained.test_vqgan_checkpoint import SUM, ldm, narrow, with_vq


def test_a_plan_says_why_a_file_is_no_such_vqgan(tmp_path):
    state = narrow().state_dict()
    path = tmp_path / "vq.ckpt"
    section = {"checkpoint": {"path": str(path), "sha256": SUM}}
    lacking = {name: value for name, value in state.items() if name != "quant_conv.bias"}
    torch.save({"state_dict": lacking}, path)
    with pytest.raises(
        RetortError, match=r"^discretizers.vq.checkpoint: .*'quant_conv.bias' is mi"
    ):
        make_plan_from_dict(with_vq(tmp_path, **section))
    torch.save({"state_dict": state}, path)
    make_plan_from_dict(with_vq(tmp_path, **section))
    with pytest.raises(RetortError, match="is 'config' the one that this file was trained with"):
        make_plan_from_dict(with_vq(tmp_path, ldm(), **section))
    torch.save({"state_dict": state, "ema": state}, path)
    with pytest.raises(
        RetortError, match="holds 2 sets of weights that fit, state_dict, ema; choo"
    ):
        make_plan_from_dict(with_vq(tmp_path, **section))
    section["checkpoint"]["take"] = "ema"
    plan = make_plan_from_dict(with_vq(tmp_path, **section))
    spec = plan.artefacts[plan.refs_by_name["discretizer", "vq"]].spec
    assert spec == {"checkpoint": {"sha256": SUM, "take": "ema"}}
