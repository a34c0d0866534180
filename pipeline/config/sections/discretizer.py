"""The section of discretizers: trained on a data set, or loaded from a file."""

from typing import Literal

from pydantic import model_validator

from pipeline.config.recipe import Recipe
from pipeline.config.sections.outside import ExternalFile, FileSpec
from pipeline.config.sections.trained import (
    OptionallyComputed,
    TrainedSettings,
    check_unlabelled_recipe,
)
from pipeline.schema import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    Section,
    Share,
    make_nested_error,
    make_neutral_field,
)


class WeightsSpec(FileSpec):
    """A file of weights in a spec; ``take`` is as in ``CheckpointSpec``."""

    take: str | None = make_neutral_field(None)


class ExternalWeights(WeightsSpec):
    """A file of weights in a section. Its sum is in the key, its path is not.

    Attributes:
        take: one of the file's sets of weights, such as `model_ema`; needed only where several fit.
        path: the file; a relative path starts where the run starts. It is not in the key.
    """

    path: str


class PerceptualSpec(Section):
    """LPIPS on VGG-16 (Zhang et al., CVPR 2018), from two files by their sums.

    Attributes:
        vgg: torchvision's VGG-16.
        lin: LPIPS's linear layers.
        weight: factor of the term beside an L1 loss on [0,1]. Taming's 1.0, beside an L1 loss on
            [-1,1], is 0.5 here.
    """

    vgg: FileSpec  # torchvision's VGG-16
    lin: FileSpec  # LPIPS's linear layers
    weight: NonNegativeFloat = 0.5


class PerceptualLossSettings(PerceptualSpec):
    """LPIPS from two local files."""

    vgg: ExternalFile
    lin: ExternalFile


class AdversarialLossSettings(Section):
    """A patch discriminator with the hinge loss (Esser et al., CVPR 2021, eqs. 5 to 7).

    Attributes:
        weight: factor on the generator's term.
        start: share of training at which the term sets in.
        rule: whether the term is scaled to the reconstruction's gradient (`adaptive`) or not
            (`constant`).
        width: channels of the discriminator's first level.
        layers: number of its levels that halve the image.
    """

    weight: NonNegativeFloat = 0.8
    start: Share = 0.5
    rule: Literal["adaptive", "constant"] = "adaptive"
    width: PositiveInt = 64
    layers: PositiveInt = 3

    @property
    def needs_whole_batch(self) -> bool:
        """Whether its factor depends on gradients averaged over the batch."""
        return self.rule == "adaptive"


class VqganShape(Section):
    """The settings of a VQGAN's architecture.

    Attributes:
        ch: number of channels of the first level, a multiple of 32.
        ch_mult: channels of each level in multiples of `ch`; every level but the last halves the
            grid.
        num_res_blocks: number of residual blocks of a level; the decoder has one more.
        attn_resolutions: sides of the grid at which levels have attention.
        z_channels: number of channels of the encoder's output.
        embed_dim: number of numbers of a code.
        n_codes: number of codes in the codebook.
        unshuffle: side in pixels of the image of the squares that become channels before the
            encoder; 1 for none.
        mid_attention: whether there is attention between the two middle blocks.
    """

    ch: PositiveInt = 32
    ch_mult: tuple[PositiveInt, ...] = (1,)
    num_res_blocks: NonNegativeInt = 0
    attn_resolutions: tuple[PositiveInt, ...] = ()
    z_channels: PositiveInt = 4
    embed_dim: PositiveInt = 4
    n_codes: PositiveInt = 256
    unshuffle: PositiveInt = 2
    mid_attention: bool = False


class ArchitectureSpec(VqganShape):
    """The complete architecture of a foreign VQGAN, from the configuration beside its file.

    Attributes:
        resolution: side of the images, in pixels.
        in_channels: number of channels of the images.
    """

    resolution: PositiveInt
    in_channels: PositiveInt


class DiscretizerSpec(TrainedSettings, VqganShape, OptionallyComputed):
    """The spec of a discretizer.

    Attributes:
        checkpoint: None for one that is trained; else only ``architecture`` describes its shape.
        architecture: None if only the file's tensors tell the architecture.
    """

    checkpoint: WeightsSpec | None = None
    architecture: ArchitectureSpec | None = None
    perceptual: PerceptualSpec | None = None
    adversarial: AdversarialLossSettings | None = None

    @property
    def shape(self) -> VqganShape | None:
        """The shape; None for a file that only its tensors describe."""
        return self if self.checkpoint is None else self.architecture


class DiscretizerSettings(TrainedSettings, VqganShape):
    """A VQGAN with taming's encoder, decoder and codebook, trained on a data set or from a file.

    Attributes:
        dataset: name of the data set to train on; a discretizer from a file is measured on its
            first test images.
        checkpoint: file of a taming or latent-diffusion VQGAN; such a discretizer is not trained.
        config: the YAML file beside it; without one the shapes of the file's tensors tell the
            architecture.
        perceptual: settings of LPIPS beside the reconstruction loss.
        adversarial: settings of a discriminator beside the reconstruction loss.
    """

    dataset: str | None = None
    checkpoint: ExternalWeights | None = make_neutral_field(None)
    config: str | None = make_neutral_field(None)
    perceptual: PerceptualLossSettings | None = make_neutral_field(None)
    adversarial: AdversarialLossSettings | None = make_neutral_field(None)

    @model_validator(mode="after")
    def check_recipe_without_labels(self):
        """Checks that the recipe needs no labels."""
        check_unlabelled_recipe(self.recipe)
        return self

    @model_validator(mode="after")
    def check_trained_or_loaded(self):
        """Checks that a trained one has a data set, and that one from a file sets no shape."""
        if self.checkpoint is None:
            if self.dataset is None:
                raise make_nested_error("dataset: is missing; name the images to train on")
            if self.config is not None:
                raise ValueError("config: describes a checkpoint; give 'checkpoint', or drop it")
            return self
        given = self.model_fields_set - {"checkpoint", "config", "dataset", "recipe"}
        if given or self.recipe != Recipe():
            name = min(given, default="recipe")
            raise ValueError(f"checkpoint: is not trained and has its own shape; drop '{name}'")
        return self
