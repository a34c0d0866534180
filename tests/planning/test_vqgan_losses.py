"""The losses of a VQGAN in its key: sums of files count where they are used, places never."""

import pytest

from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from tests.planning.test_plan import edited, keys
from tests.training.test_vqgan_losses import SECTION


def test_sums_are_in_the_key_and_only_where_they_count():
    before = keys(edited("discretizers.vq", SECTION))["discretizer/vq"]
    files = {part: {"path": f"{part}.pth", "sha256": 64 * "a"} for part in ("vgg", "lin")}
    one = keys(edited("discretizers.vq", {**SECTION, "perceptual": files}))["discretizer/vq"]
    moved = {part: {**file, "path": "elsewhere"} for part, file in files.items()}
    assert one != before
    assert (
        keys(edited("discretizers.vq", {**SECTION, "perceptual": moved}))["discretizer/vq"] == one
    )
    entry = make_plan_from_dict(edited("discretizers.vq", {**SECTION, "perceptual": files}))
    entry = entry.artefacts[entry.refs_by_name["discretizer", "vq"]]
    assert {"pipeline.core.lpips", "pipeline.training.vqgan_losses"} <= entry.code.keys()
    assert entry.outside_paths == {"perceptual.vgg": "vgg.pth", "perceptual.lin": "lin.pth"}


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(RetortError, match="adversarial.layers: 4 want images of 48 px, data set"):
        make_plan_from_dict(edited("discretizers.vq", {**SECTION, "adversarial": {"layers": 4}}))
    bad = {"vgg": {"path": "x", "sha256": 64 * "a"}}
    with pytest.raises(
        RetortError,
        match="discretizers.vq.perceptual.lin: is missing; give a mapping with 'sha256', 'path'",
    ):
        make_plan_from_dict(edited("discretizers.vq", {**SECTION, "perceptual": bad}))
