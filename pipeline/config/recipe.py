"""How a network is trained: schema, defaults and documentation of a recipe."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.schema import (
    NonNegativeFloat,
    Number,
    PositiveFloat,
    PositiveInt,
    Section,
    Share,
    TeacherForm,
    make_neutral_field,
)


class Recipe(Section):
    """How a network is trained; `recipes.<name>` holds one, a section's own `epochs` overrides it.

    Attributes:
        epochs: number of passes over the training images; a generator's epoch is `steps_per_epoch`
            batches.
        batch: number of images for each update, over all GPUs together.
        optimizer: what makes a step of a gradient: SGD with momentum, or AdamW.
        lr: the highest learning rate.
        momentum: SGD's momentum.
        nesterov: whether SGD's momentum is Nesterov's.
        weight_decay: weight decay of the optimiser.
        decay_biases: whether it also holds for parameters of one dimension: biases, and the scales
            of normalisation layers. timm leaves these out.
        schedule: how the learning rate changes over training: not at all, by steps, by half a
            cosine down to 0, or up to `lr` over a quarter of training and down again.
        cosine_from: share of training up to which `schedule: cosine` keeps the highest rate.
        milestones: shares of training at which `schedule: step` multiplies the rate by `gamma`;
            they rise.
        gamma: factor of the learning rate at each of the milestones.
        warmup: share of training over which the rate rises from 0.
        augment: `crop_flip` is CIFAR's crop after padding; `resized_crop` is ImageNet's, of random
            size and place; both flip. Drawn at each step, or for each file that is decoded.
        ema: decay of the moving average of weights, which is then validated and exported; 0 is
            none.
        swa_from: share of training from which the weights at the ends of epochs are averaged, alike
            (Izmailov et al., 2018), and then validated and exported; 0 is none. BatchNorm's
            statistics are averaged with them.
        bf16: autocast of attacks (inner), of training passes (outer), or of both.
        channels_last: whether images and weights are stored channels last, which is faster on many
            machines.
        clip_grad: largest norm of the gradient; 0 does not limit it.
        select_on: weights to export: the last, or the best by PGD-10 on the validation split. The
            test split is only for parity with papers that used it. The last are kept as well.
        keep_epochs: epochs (from 1) whose weights are kept as well.
        accumulate: number of parts into which each batch is split, one after the other, for one
            update.
        smoothing: share of a label spread over all classes; labels become distributions.
        mixup: alpha of Mixup, by which images and labels are mixed; 0 is none.
        cutmix: alpha of CutMix, by which parts of images and labels are mixed; 0 is none.
        rand_augment: magnitude of two random operations per image (Cubuk et al., 2020); 0 is none.
        erase: chance that a random box of an image is filled with noise (Zhong et al., 2020).
        tf32: whether matrix products and convolutions in single precision are rounded to TF32 on a
            GPU. Evaluation never is.
        cudnn_benchmark: whether cuDNN tries its algorithms out and takes the fastest.
        deterministic: whether two runs on a GPU end with the same bytes; some operations then are
            slower or refused.
        compile: torch.compile's backend for the student; `graph` repeats the inner attack and the
            networks' passes in a step as CUDA graphs, where that is possible.
        gpus: number of processes that share every batch, each with a GPU of its own.
        sync_bn: whether BatchNorm uses the statistics of the whole batch. If not, each process uses
            those of its own rows, and the running statistics are averaged.
        teacher_form: `folded` computes a student's teachers with their BatchNorms folded into the
            convolutions before them; with `bf16: both` their weights are held in bf16.
    """

    epochs: PositiveInt = 200
    batch: PositiveInt = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: PositiveFloat = 0.1
    momentum: Share = 0.9
    nesterov: bool = False
    weight_decay: NonNegativeFloat = 5e-4
    schedule: Literal["constant", "step", "cosine", "onecycle"] = "step"
    milestones: tuple[Share, ...] = (0.5, 0.75)
    gamma: PositiveFloat = 0.1
    warmup: Share = 0.0
    augment: Literal["none", "flip", "crop_flip", "resized_crop"] = "crop_flip"
    ema: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    bf16: Literal["none", "inner", "outer", "both"] = "none"
    channels_last: bool = False
    clip_grad: NonNegativeFloat = 0.0
    select_on: Literal["last", "val", "test"] = "last"
    keep_epochs: tuple[PositiveInt, ...] = ()  # in every key, also where there are none
    accumulate: PositiveInt = make_neutral_field(1)
    smoothing: Share = make_neutral_field(0.0)
    mixup: NonNegativeFloat = make_neutral_field(0.0)
    cutmix: NonNegativeFloat = make_neutral_field(0.0)
    rand_augment: Annotated[int, Field(ge=0, le=30)] = make_neutral_field(0)
    erase: Share = make_neutral_field(0.0)
    tf32: bool = make_neutral_field(False)
    cudnn_benchmark: bool = make_neutral_field(False)
    deterministic: bool = make_neutral_field(False)
    compile: Literal["none", "eager", "inductor", "graph"] = make_neutral_field("none")
    gpus: PositiveInt = make_neutral_field(1)
    sync_bn: bool = make_neutral_field(True)
    swa_from: Share = make_neutral_field(0.0)
    decay_biases: bool = make_neutral_field(True)
    cosine_from: Annotated[Number, Field(ge=0, lt=1)] = make_neutral_field(0.0)
    teacher_form: TeacherForm = make_neutral_field("as_trained")

    @model_validator(mode="after")
    def check_epochs_and_batch(self):
        """Checks that milestones rise, kept epochs exist and the batch splits evenly."""
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones {self.milestones} must rise; sort them")
        if self.cosine_from and self.schedule != "cosine":
            raise ValueError(f"cosine_from: schedule {self.schedule} has no cosine; drop it")
        if self.keep_epochs and max(self.keep_epochs) > self.epochs:
            raise ValueError(f"keep_epochs {self.keep_epochs} go beyond epochs {self.epochs}")
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate {self.accumulate} does not divide batch {self.batch}")
        if self.swa_from and self.ema:
            raise ValueError("swa_from: an average already has `ema`; drop one of them")
        if self.deterministic and self.cudnn_benchmark:
            raise ValueError(
                "cudnn_benchmark: may choose otherwise in a second run; drop it, or deterministic"
            )
        return self

    @model_validator(mode="after")
    def check_gpu_split(self):
        """Checks that processes get equal rows, and that no option needs a single process."""
        if self.gpus == 1 and not self.sync_bn:
            raise ValueError("sync_bn: means nothing to one GPU; drop it, or set gpus")
        if self.batch % (self.accumulate * self.gpus):
            parts = f"gpus {self.gpus} times accumulate {self.accumulate}"
            raise ValueError(f"{parts} does not divide batch {self.batch}")
        if self.gpus > 1 and self.compile != "none":
            raise ValueError("compile: goes with one GPU alone; drop it")
        return self

    @property
    def has_soft_labels(self) -> bool:
        """Whether labels become distributions over classes."""
        return self.mixup > 0 or self.cutmix > 0 or self.smoothing > 0
