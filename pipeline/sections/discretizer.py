"""The section of discretisers."""

from pydantic import model_validator

from pipeline.sections.trained import Trained, plain_recipe
from pipeline.strict import Count, Positive


class Discretizer(Trained):
    """A VQGAN of taming's encoder, decoder and quantiser, trained on a data set."""

    dataset: str
    ch: Positive = 32
    ch_mult: tuple[Positive, ...] = (1,)
    num_res_blocks: Count = 0
    attn_resolutions: tuple[Positive, ...] = ()
    z_channels: Positive = 4
    embed_dim: Positive = 4
    n_codes: Positive = 256
    unshuffle: Positive = 2
    mid_attention: bool = False

    @model_validator(mode="after")
    def without_labels(self):
        """Nothing here is labelled."""
        plain_recipe(self.recipe)
        return self
