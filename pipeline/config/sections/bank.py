"""The section of banks."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.config.sections.trained import Computed
from pipeline.core.threat_models import check_steps
from pipeline.schema import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
    Share,
    TeacherForm,
    make_nested_error,
    make_neutral_field,
    read_number,
)

PIXEL_ATTACK = {"norm": "linf", "steps": 10, "start_probability": 1}  # PGD, not DAD
PIXEL_STEP = 1 / 4  # of the radius
LARGEST_RADIUS = 1e6  # far above that of any image in L2
SMALLEST_RADIUS = 0.999 / 255  # in which an image of 8 bits can move, rounding left aside


class BankAttackSettings(Section):
    """The perturbation of an image, in pixel space: DAD's around Q(x), or PGD's around x.

    With neither steps nor a random start, or with `attack: null`, a sample is Q(x) itself. Without
    a discretizer `eps` must be given, and other defaults hold: `norm` linf, `steps` 10, `step` a
    quarter of eps, `start_probability` 1.

    Attributes:
        norm: norm of the ball in which the sample stays.
        eps: radius of the ball, in pixels of [0,1].
        step: size of a step, in pixels of [0,1].
        steps: number of steps.
        start_probability: chance that a sample starts at a random point of the ball, not at Q(x).
        grad_path: what the gradient is taken of: the teacher at the perturbed image, or the teacher
            after the discretizer, straight through its codebook (`ste`).
        loss: what it raises, without a discretizer, where T is the bank's teacher and A the network
            in `against`, else T: the cross-entropy of A(x') and the label (`ce`), RSLAD's
            KL(T(x) ‖ A(x')), or AdaAD's KL(T(x') ‖ A(x')), the default with `against`.
    """

    norm: Literal["l2", "linf"] = "l2"
    eps: NonNegativeFloat = 0.1
    step: NonNegativeFloat = 0.1
    steps: NonNegativeInt = 1
    start_probability: Share = 0.8
    grad_path: Literal["identity", "ste"] = "identity"
    loss: Literal["ce", "rslad", "adaad"] = make_neutral_field("ce")

    @model_validator(mode="after")
    def check_step_size(self):
        """Rejects a step above the radius, unless it is the only step, and a radius above 1."""
        try:
            check_steps(self.eps, self.step, self.steps, self.norm)
        except ValueError as error:
            raise make_nested_error(str(error)) from error
        return self


class OutputSettings(Section):
    """Which of the teacher's outputs are stored, and how exactly.

    Attributes:
        top_k: number of logits kept per sample, with the mass of the rest; 0 keeps all.
        temperature: temperature at which the mass of the rest is exact; that of the students.
        clean: whether outputs on the clean images are stored beside those on the samples.
    """

    top_k: NonNegativeInt = 0
    temperature: PositiveFloat = 1.0
    clean: bool = True


class OutputsSpec(OutputSettings):
    """The outputs of a bank's spec: with the number of classes if only some logits are kept."""

    classes: PositiveInt | None = None


class ViewSettings(Section):
    """Augmented views of every image and sample, with the teacher's outputs on these views.

    Each view is drawn by (seed, source row, view), so a student redraws it without the teacher.

    Attributes:
        count: V, the number of views per sample; epoch e reads view e mod V.
        augment: how each view is cropped and flipped, as in a recipe.
        rand_augment: magnitude of RandAugment, as in a recipe; 0 is none.
        mixup: alpha of Mixup with a partner of the same shard; 0 is none.
        cutmix: alpha of CutMix with a partner of the same shard; with Mixup on as well, each view
            uses one of them.
    """

    count: PositiveInt = 4
    augment: Literal["none", "flip", "crop_flip"] = "crop_flip"
    rand_augment: Annotated[int, Field(ge=0, le=30)] = 0
    mixup: NonNegativeFloat = 0.0
    cutmix: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def check_views_differ(self):
        """Checks that views differ from the image; else the same outputs are stored V times."""
        if self.augment == "none" and not (self.rand_augment or self.mixup or self.cutmix):
            raise ValueError("the views change nothing; set augment, or drop 'views'")
        return self


class BankForm(Section):
    """The fields that a bank's section and its spec share.

    Attributes:
        shards: number of tar files.
        block: number of rows computed and stored together.
        quality: of a JPEG, 1 to 100. The teacher's outputs are those on the decoded JPEG.
        tokens: whether tokens are stored beside the pixels.
        views: settings of augmented views, stored with the teacher's outputs on them.
        bf16: whether teacher, encoder and decoder compute under bf16 autocast. Latents are compared
            with the codes in single precision.
        teacher_form: `folded` computes the teacher with its BatchNorms folded into the convolutions
            before them.
    """

    shards: PositiveInt = 8
    block: PositiveInt = 128
    quality: Annotated[int, Field(ge=1, le=100)] = make_neutral_field(95)
    tokens: bool = make_neutral_field(False)
    views: ViewSettings | None = make_neutral_field(None)
    bf16: bool = make_neutral_field(False)
    teacher_form: TeacherForm = make_neutral_field("as_trained")


class BankSpec(BankForm, Computed):
    """The spec of a bank.

    Attributes:
        attack: None if samples are Q(x) itself, or if there are none.
        reject: None for a bank of outputs alone, which holds no samples.
    """

    attack: BankAttackSettings | None = None
    reject: Literal["drop", "keep", "none"] | None = None
    encoding: Literal["blocks", "png", "jpeg", "tokens"] = "blocks"
    outputs: OutputsSpec = OutputsSpec()

    @property
    def has_samples(self) -> bool:
        """Whether it holds samples as well as the teacher's outputs on clean images."""
        return self.reject is not None

    @property
    def has_tokens(self) -> bool:
        """Whether the samples' tokens are stored."""
        return self.tokens or self.encoding == "tokens"


class BankSettings(BankForm):
    """Adversarial samples and teacher outputs, made once for all students.

    With a discretizer samples are discretised; with an attack alone they are PGD's, in pixel space.
    Without both, a bank holds only the teacher's outputs on the data set.

    Attributes:
        dataset: name of the data set whose training images it holds samples of.
        teacher: name of the teacher that is attacked and whose outputs are stored.
        discretizer: name of the discretizer; without one, `images` or an attack's `eps`, it holds
            outputs alone.
        images: name of a data set of generated images; a training image of the same class stands
            in the place of each sample.
        attack: settings of the perturbation; `null` stores Q(x) itself. Without a discretizer it
            moves the image itself, and `eps` must be given.
        against: name of a student or teacher that the attack is made against, in pixel space; a
            student of several seeds is its first.
        reject: what happens to a sample for which the teacher no longer predicts its label: `drop`
            stores no sample, `keep` stores Q(x), or x without a discretizer, `none` the sample. The
            default without a discretizer is `none`: there the attack is meant to fool the teacher.
        encoding: `blocks` of pixels, one `png` or `jpeg` per sample, or only `tokens`; `auto` is
            `blocks` up to 64 px and `png` above.
        outputs: settings of the outputs that are stored; without them all logits on images and
            samples.
    """

    dataset: str
    teacher: str
    discretizer: str | None = None
    images: str | None = make_neutral_field(None)
    attack: BankAttackSettings | None = BankAttackSettings()
    against: str | None = make_neutral_field(None)
    reject: Literal["drop", "keep", "none"] = "drop"
    encoding: Literal["auto", "blocks", "png", "jpeg", "tokens"] = make_neutral_field("auto")
    outputs: OutputSettings | None = make_neutral_field(None)

    @model_validator(mode="before")
    @classmethod
    def fill_pixel_defaults(cls, value: Any) -> Any:
        """Fills in the defaults of an attack in pixel space, which are not DAD's."""
        if not isinstance(value, Mapping) or value.get("discretizer") or value.get("images"):
            return value
        attack = value.get("attack")
        if not isinstance(attack, Mapping) or "eps" not in attack:
            return value
        eps, own = read_number(attack["eps"]), {}
        if eps is not None and 0 < eps < LARGEST_RADIUS:
            own["step"] = PIXEL_STEP * eps
        own["loss"] = "adaad" if value.get("against") else "ce"
        return {"reject": "none", **value, "attack": {**PIXEL_ATTACK, **own, **attack}}

    @model_validator(mode="after")
    def check_fields_fit(self):
        """Checks that fields go with the kind of samples that there are."""
        if self.images is not None:
            self.check_generated_fields()
        elif self.attacks_pixels:
            self.check_pixel_fields()
        elif self.discretizer is None:
            self.check_output_fields()
        if not self.attacks_pixels:
            for name, given in (
                ("against", self.against is not None),
                ("attack.loss", self.attack is not None and self.attack.loss != "ce"),
            ):
                if given:
                    raise ValueError(
                        f"{name}: goes with an attack in pixel space; give attack.eps and no "
                        "'discretizer' or 'images', or drop it"
                    )
        if "quality" in self.model_fields_set and self.encoding != "jpeg":
            raise ValueError("quality: goes with 'encoding: jpeg'; drop it")
        return self

    def check_generated_fields(self) -> None:
        """Raises an error for a field that does not go with generated images."""
        if self.discretizer is not None or self.encoding == "tokens":
            raise ValueError("images: are samples as they are; drop 'discretizer' and tokens")
        for name in ("attack", "reject", "tokens"):
            if name in self.model_fields_set:
                raise ValueError(f"{name}: does not go with 'images'; drop it")

    def check_output_fields(self) -> None:
        """Raises an error for a field that does not go with a bank of outputs alone."""
        for name in ("attack", "reject", "encoding", "quality", "tokens"):
            if name in self.model_fields_set:
                also = "; for samples in pixel space, give attack.eps" if name == "attack" else ""
                raise ValueError(f"{name}: goes with 'discretizer'; name one, or drop it{also}")
        if not self.stores_clean_outputs:
            raise ValueError("outputs.clean: without a discretizer nothing would be stored")

    def check_pixel_fields(self) -> None:
        """Raises an error for a field that does not go with samples in pixel space."""
        attack = self.attack
        if self.tokens or self.encoding == "tokens":
            raise ValueError("tokens: goes with 'discretizer'; name one, or drop it")
        if self.encoding == "jpeg":
            raise ValueError("encoding: a JPEG would leave the ball; use 'png' or 'blocks'")
        if attack.grad_path == "ste":
            raise ValueError("attack.grad_path: 'ste' goes with 'discretizer'; drop it")
        if attack.eps < SMALLEST_RADIUS:
            raise ValueError("attack.eps: is below 1/255, so images of 8 bits would not move")
        if not (attack.steps or attack.start_probability):
            raise ValueError("attack: takes no step from x; set steps, or start_probability")
        if attack.loss == "adaad" and self.against in (None, self.teacher):
            raise ValueError(
                "attack.loss: 'adaad' compares the teacher with another network; name it in "
                "'against', or set loss: ce"
            )

    @property
    def attacks_pixels(self) -> bool:
        """Whether samples are PGD's, in pixel space, without a discretizer."""
        without = self.discretizer is None and self.images is None
        given = "attack" in self.model_fields_set and self.attack is not None
        return without and given and "eps" in self.attack.model_fields_set

    @property
    def has_samples(self) -> bool:
        """Whether it holds samples as well as the teacher's outputs on clean images."""
        return self.discretizer is not None or self.images is not None or self.attacks_pixels

    @property
    def stores_clean_outputs(self) -> bool:
        """Whether outputs on clean images are stored."""
        return self.outputs is None or self.outputs.clean

    @property
    def perturbs_samples(self) -> bool:
        """Whether samples are moved away from Q(x), or from x."""
        attack = self.attack if self.discretizer is not None or self.attacks_pixels else None
        return attack is not None and (attack.steps > 0 or attack.start_probability > 0)
