"""A teacher tried on images that it should know: is it above chance, and is it read rightly?

It changes no weights: what it finds is said in the log and in the manifest's facts.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.core.images import scale_to_unit_range
from pipeline.core.seeding import make_generator
from pipeline.data.dataset_artefact import DatasetArtefact
from pipeline.errors import RetortError

TRIAL_SIZES = (100, 250, 500, 1000)  # images after which a teacher may be judged
READING_IMAGES = 500  # images on which ways of reading pixels are compared
MARGIN = 0.05  # share of the way from chance to 1 that the interval must lie above chance
BATCH_SIZE = 50
CLASSES_LISTED = 20  # classes up to which a better order of outputs is written out
FIXED_READINGS = {  # name -> mean and std of every channel
    "no normalisation": (0.0, 1.0),
    "pixels of 0 to 255": (0.0, 1 / 255),
    "pixels of -1 to 1": (0.5, 0.5),
}

Reading = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std of each channel

log = logging.getLogger("retort")


@dataclass(frozen=True)
class Sample:
    """Images (N,C,H,W) uint8 that a teacher is tried on, and their labels (N,)."""

    images: Tensor
    labels: Tensor
    split: str

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Share:
    """How many of some images a teacher classifies correctly, with a 95 % interval (Wilson)."""

    right: int
    count: int

    @property
    def value(self) -> float:
        """The share in [0,1]."""
        return self.right / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends in [0,1]."""
        from scipy.stats import binomtest  # a second to import, and few jobs try a teacher

        found = binomtest(self.right, self.count).proportion_ci(0.95, "wilson")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        low, high = self.interval
        numbers = f"95 % interval {100 * low:.1f} to {100 * high:.1f} %"
        return f"{100 * self.value:.1f} % of {self.count} images ({numbers})"


def draw_sample(data: DatasetArtefact, count: int, *split_names: str) -> Sample | None:
    """Images drawn from the first split that has any; None if none has."""
    for name in split_names:
        split = data.read_split(name)
        if len(split.labels):
            rng = make_generator(0, "teacher trial", name)
            rows = torch.randperm(len(split.labels), generator=rng)[:count]
            return Sample(split.images[rows], split.labels[rows], name)
    return None


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Predicted labels (N,) of images (N,C,H,W) uint8, on the CPU."""
    device = next(model.parameters()).device
    parts = images.split(BATCH_SIZE)
    return torch.cat([model(scale_to_unit_range(p.to(device))).argmax(1).cpu() for p in parts])


def measure_share(model: nn.Module, sample: Sample, wanted: float) -> Share:
    """The share of a sample that is right; fewer images are read if they prove it above wanted."""
    right = done = 0
    for size in TRIAL_SIZES:
        images, labels = sample.images[done:size], sample.labels[done:size]
        if len(labels):
            right += int((predict(model, images) == labels).sum())
            done += len(labels)
        if Share(right, done).interval[0] > wanted:
            break
    return Share(right, done)


def find_chance(labels: Tensor) -> float:
    """The share that the best constant answer gets right."""
    return int(labels.bincount().max()) / len(labels)


def try_teacher(
    model: nn.Module, data: DatasetArtefact, where: str, may_be_wrong: bool, stops: bool = True
) -> dict:
    """Measure a teacher on up to 1,000 training images and return facts for the manifest.

    Args:
        where: what the message begins with: a file, or the teacher's name.
        may_be_wrong: whether the section says `unverified`; then nothing is refused.
        stops: whether a teacher near chance is an error, else a warning.

    Raises:
        RetortError: it is near chance. The message says what would repair it, if anything does.
    """
    model = model.eval()
    sample = draw_sample(data, TRIAL_SIZES[-1], "train", "val", "test")
    if sample is None:
        log.info("%s: the data set has no images to try it on", where)
        return {}
    chance = find_chance(data.read_split(sample.split).labels)
    wanted = chance + MARGIN * (1 - chance)
    share = measure_share(model, sample, wanted)
    log.info("%s: right on %s of the %s split", where, share, sample.split)
    if share.interval[0] <= wanted:
        report_near_chance(
            model,
            data,
            sample,
            f"{where}: right on {share}, where chance is {100 * chance:.1f} %",
            wanted,
            stops and not may_be_wrong,
        )
    return {
        "trial_accuracy": share.value,
        "trial_interval": list(share.interval),
        "trial_images": share.count,
    }


def report_near_chance(
    model: nn.Module,
    data: DatasetArtefact,
    sample: Sample,
    finding: str,
    wanted: float,
    stops: bool,
) -> None:
    """Warn of a teacher near chance, with what would repair it.

    Raises:
        RetortError: the same, if the job has to stop.
    """
    repairs = list_repairs(model, data, sample, wanted)
    remedy = "; ".join(repairs) or (
        "neither another order of classes nor another normalisation repairs it: was it trained on "
        "these classes?"
    )
    text = f"{finding}; {remedy}"
    if stops:
        raise RetortError(
            f"{text}; or say 'unverified: true' beside its data set to use it as it is"
        )
    log.warning("%s", text)


def list_repairs(
    model: nn.Module, data: DatasetArtefact, sample: Sample, wanted: float
) -> list[str]:
    """What lifts a teacher above chance: another normalisation, another order, or both."""
    repairs = []
    part = Sample(sample.images[:READING_IMAGES], sample.labels[:READING_IMAGES], sample.split)
    for name, mean_and_std in {"": None, **list_readings(model, data)}.items():
        with use_reading(model, mean_and_std):
            found = predict(model, part.images)
        share = Share(int((found == part.labels).sum()), len(part))
        if name and share.interval[0] > wanted:
            repairs.append(describe_reading(name, mean_and_std, share))
        elif (order := find_better_order(found, part.labels, data.classes, wanted)) is not None:
            first = f"{describe_reading(name, mean_and_std)} and " if name else ""
            repairs.append(first + order)
    return repairs


def find_better_order(
    found: Tensor, labels: Tensor, classes: tuple[str, ...], wanted: float
) -> str | None:
    """The order of classes under which predictions are above chance; None if none is.

    It is fitted to every other image and measured on the rest, since among many classes a fitted
    order is right on some images by accident.
    """
    count = len(classes)
    if len(labels) < 2 or int(found.max()) >= count:
        return None
    hits = torch.zeros(count, count, dtype=torch.long)
    hits.index_put_((found[::2], labels[::2]), torch.tensor(1), accumulate=True)
    from scipy.optimize import linear_sum_assignment

    _, label_of = linear_sum_assignment(hits.numpy(), maximize=True)
    right = torch.from_numpy(label_of)[found[1::2]] == labels[1::2]
    share = Share(int(right.sum()), len(right))
    if share.interval[0] <= wanted:
        return None
    order = ", ".join(classes[label] for label in label_of[:CLASSES_LISTED])
    more = ", …" if count > CLASSES_LISTED else ""
    return (
        f"with its outputs in the order {order}{more} it is right on {share}: save its head in the "
        "data set's order of classes"
    )


def list_readings(model: nn.Module, data: DatasetArtefact) -> dict[str, Reading]:
    """Other means and stds with which a teacher may have been trained, by name."""
    if (normaliser := find_normaliser(model)) is None:
        return {}
    channels = data.shape[0]
    known = {"the data set's mean and std": (tuple(data.mean), tuple(data.std))}
    known |= {name: ((m,) * channels, (s,) * channels) for name, (m, s) in FIXED_READINGS.items()}
    own = normaliser.mean.flatten().tolist(), normaliser.std.flatten().tolist()
    return {
        name: reading
        for name, reading in known.items()
        if not torch.allclose(torch.tensor(own), torch.tensor(reading), atol=1e-3)
    }


def find_normaliser(model: nn.Module) -> nn.Module | None:
    """The module of a teacher that holds the mean and std of its pixels."""
    for module in model.modules():
        buffers = dict(module.named_buffers(recurse=False))
        if {"mean", "std"} <= buffers.keys():
            return module
    return None


@contextmanager
def use_reading(model: nn.Module, mean_and_std: Reading | None) -> Iterator[None]:
    """Gives a teacher another mean and std for the block; None leaves its own."""
    if mean_and_std is None:
        yield
        return
    normaliser = find_normaliser(model)
    before = normaliser.mean.clone(), normaliser.std.clone()
    try:
        for buffer, values in zip((normaliser.mean, normaliser.std), mean_and_std, strict=True):
            buffer.copy_(torch.tensor(values).view_as(buffer))
        yield
    finally:
        normaliser.mean.copy_(before[0])
        normaliser.std.copy_(before[1])


def describe_reading(name: str, mean_and_std: Reading, share: Share | None = None) -> str:
    """A reading in words, with what to write."""
    mean, std = ([round(value, 4) for value in values] for values in mean_and_std)
    result = f"it is right on {share}: " if share else ""
    return f"with {name} {result}set 'mean: {mean}, std: {std}' beside its path"


def compare_readings(model: nn.Module, data: DatasetArtefact) -> Mapping[str, float]:
    """Accuracy under each reading of the pixels; warns where another is clearly better.

    It is measured on up to 500 images of the validation split, else of the training split. A
    reading that cannot be better any more after 100 images is left there.
    """
    sample = draw_sample(data, READING_IMAGES, "val", "train")
    if sample is None:
        return {}
    model = model.eval()
    own = Share(int((predict(model, sample.images) == sample.labels).sum()), len(sample))
    readings, shares = list_readings(model, data), {"as configured": own}
    for name, mean_and_std in readings.items():
        with use_reading(model, mean_and_std):
            shares[name] = measure_reading(model, sample, own)
    best = max(shares, key=lambda name: shares[name].interval[0])
    if best in readings and shares[best].interval[0] > own.interval[1]:
        better = describe_reading(best, readings[best], shares[best])
        log.warning("as configured right on %s of the %s split, but %s", own, sample.split, better)
    return {name: share.value for name, share in shares.items()}


def measure_reading(model: nn.Module, sample: Sample, own: Share) -> Share:
    """The share under another reading; on 100 images if that shows that it is not better."""
    first = sample.labels[: TRIAL_SIZES[0]]
    right = int((predict(model, sample.images[: len(first)]) == first).sum())
    share = Share(right, len(first))
    if share.interval[1] <= own.value or len(first) == len(sample):
        return share
    rest = sample.labels[len(first) :]
    right += int((predict(model, sample.images[len(first) :]) == rest).sum())
    return Share(right, len(sample))
