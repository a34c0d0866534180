"""WebDataset shards of any size: tar files that are read member by member, not unpacked.

`<path>/<train>` and `<path>/<test>` are patterns of tar files. A sample is an image (`.jpg`,
`.jpeg`, `.png`, `.webp`, `.bmp`) and its label (`.cls`, a number or a class's name, or `.json`)
under one key; `image` and `label` name other fields, such as `input.png` and `target.cls`. What is
left out of `version`, `folders`, `train`, `val` and `test` is found in the shards (``find``). The
splits are in a fixed random order.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.data import imagenet
from pipeline.data.file_index import (
    FileIndex,
    ImageLocation,
    build_index_table,
    check_options,
    list_class_names,
)
from pipeline.data.folder_layout import (
    VERSION_PREFIX,
    FoundImages,
    check_version,
    compute_version,
    describe_version,
)
from pipeline.data.image_folder import describe_missing, find_source, locate_source
from pipeline.data.lazy_images import get_decoder_pool
from pipeline.data.tar_shards import (
    FieldReader,
    ShardSample,
    check_labels,
    collect_labels,
    find_shard_patterns,
    list_key_warnings,
    list_shards,
    make_note_path,
    name_classes,
    read_class_names,
    read_counts,
    shorten,
)
from pipeline.errors import RetortError, prefix_errors
from pipeline.progress import track_steps

REVISION = 1
COMPONENTS = (
    "pipeline.core.augment",
    "pipeline.core.seeding",
    "pipeline.data.file_index",
    "pipeline.data.image_folder",
    "pipeline.data.imagenet",
    "pipeline.data.lazy_images",
    "pipeline.data.splits",
)

DEFAULT_FOLDER = "imagenet-shards"
DEFAULT_SPLITS = {"train": "*train*.tar", "val": "", "test": "*val*.tar"}  # else found

log = logging.getLogger("retort")


@dataclass(frozen=True)
class Images:
    """Images in tar shards.

    Attributes:
        path: their folder, as given or below the data folder. Not in the key.
        version: a name for their content, to be changed with it; a digest over the shards' names
            and sizes unless given.
        train: pattern of the training shards below it; it may have braces.
        val: pattern of the validation shards; "": they are taken from the training images.
        test: pattern of the test shards; "": there are none.
        size: side of the centre crop, in pixels, to which images of any size are resized.
        crop: share of the shorter side that it keeps; 1 for images that are already cropped.
        folders: WordNet ids or other names of the classes in label order; the lines of
            `classnames.txt` or `classes.txt` beside the shards, the labels, or ImageNet's thousand
            unless given.
        names: class names in the same order, for prompts; OpenAI's unless given.
        image: name of the image's field, such as `input.png`; found unless given.
        label: name of the label's field, such as `target.cls`; found unless given.
        decode: "plain" or "as_seen", as in `imagefolder`.
    """

    path: str = field(default="", metadata={"outside": True})
    version: str = ""
    train: str = DEFAULT_SPLITS["train"]
    val: str = field(default=DEFAULT_SPLITS["val"], metadata={"neutral": DEFAULT_SPLITS["val"]})
    test: str = DEFAULT_SPLITS["test"]
    size: int = 224
    crop: float = 0.875
    folders: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    image: str = field(default="", metadata={"neutral": ""})
    label: str = field(default="", metadata={"neutral": ""})
    decode: str = field(default="plain", metadata={"neutral": "plain"})

    def __post_init__(self):
        places = {split: getattr(self, split) for split in DEFAULT_SPLITS}
        check_options(self.size, self.crop, self.decode, places)
        list_class_names(self.folders, self.names)

    @property
    def sizes(self) -> dict[str, int | None]:
        """Rows of the splits, None: known only when the shards are read."""
        own = {"val": None} if self.val else {}
        return {"train": None, **own, "test": None if self.test else 0}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C,H,W)."""
        return 3, self.size, self.size

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return list_class_names(self.folders, self.names)

    def find(self, cache: Path, counts: bool) -> FoundImages:
        """Options that were left out, and with ``counts`` the number of images of each split.

        A configuration that gives version and counts is planned without its shards: they are then
        looked at only for a file of class names beside them.

        Raises:
            RetortError: no shards, faulty ones, or labels that do not fit.
        """
        looks = counts or not self.version
        root = find_source(self.path, cache, DEFAULT_FOLDER)
        if root is None and looks:
            missing = describe_missing(self.path, cache, DEFAULT_FOLDER)
            raise RetortError(f"path: {missing}; set it to the folder of your shards")
        if root is None or not (looks or not self.folders):
            return FoundImages()
        with prefix_errors("path: "):
            whole = replace(self, **self.find_splits(root)) if looks else self
            shards = whole.list_splits(root)
        listed = self.folders
        if not listed:
            places = [root, *(path.parent for found in shards.values() for path in found)]
            with prefix_errors("folders: "):
                listed = read_class_names(dict.fromkeys(places))
            listed = () if len(listed) == len(imagenet.load_wordnet_ids()) else listed
        whole = replace(whole, folders=listed)
        return whole.count_images(root, shards, cache) if looks else FoundImages(whole.options)

    @property
    def options(self) -> dict:
        """The options that ``find`` finds, beside the version."""
        return {name: getattr(self, name) for name in (*DEFAULT_SPLITS, "folders")}

    def find_splits(self, root: Path) -> dict[str, str]:
        """The patterns of the splits: those given, or found if none is."""
        given = {split: getattr(self, split) for split in DEFAULT_SPLITS}
        if given != DEFAULT_SPLITS:
            return given
        found = find_shard_patterns(root)
        return {"train": found.get("train", given["train"])} | {
            split: found.get(split, "") for split in ("val", "test")
        }

    def list_splits(self, root: Path) -> dict[str, list[Path]]:
        """The shards of every split that has some."""
        found = {s: list_shards(root, getattr(self, s)) for s in DEFAULT_SPLITS if getattr(self, s)}
        return {split: shards for split, shards in found.items() if shards}

    def count_images(
        self, root: Path, shards: Mapping[str, list[Path]], cache: Path
    ) -> FoundImages:
        """The found options with each split's number of images, and a version if none is given."""
        version = compute_version(list_names_and_sizes(root, shards))
        note = make_note_path(cache, repr((version, shards, self.image, self.label)))
        with prefix_errors("path: "):
            check_apart(shards)
            counts, labels = read_counts(note, shards, self.read_shards)
            whole = self
            if not self.folders and not self.is_imagenet(labels):
                whole = replace(self, folders=name_classes(labels))
            check_labels(labels, len(whole.classes), whole.label_names)
        sizes = {"train": 0, "test": 0} | counts
        where = ", ".join(f"{split} from '{getattr(self, split)}'" for split in shards)
        notes = (f"{len(whole.classes)} classes, {where}",)
        if self.version:
            return FoundImages(whole.options, sizes, notes)
        notes += (describe_version(version, sum(map(len, shards.values())), "shards"),)
        return FoundImages(whole.options | {"version": version}, sizes, notes)

    def is_imagenet(self, labels: Mapping[str, str]) -> bool:
        """Whether labels are WordNet ids of the thousand, or numbers up to 999."""
        thousand = imagenet.load_wordnet_ids()
        if labels.keys() <= set(thousand):
            return True
        return str(len(thousand) - 1) in labels and str(len(thousand)) not in labels

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes' names in the shards, in label order."""
        return self.folders or imagenet.load_wordnet_ids()

    def verify_version(self, cache: Path) -> None:
        """Raise RetortError if the version is a digest and the shards are others."""
        if self.version.startswith(VERSION_PREFIX):
            root = locate_source(self.path, cache, DEFAULT_FOLDER)
            check_version(self.version, list_names_and_sizes(root, self.list_splits(root)), root)

    def read_shards(self, shards: Sequence[Path]) -> list[ShardSample]:
        """The samples of some shards, in order.

        Raises:
            RetortError: samples lack something; all are counted, the first twenty named.
        """
        reader = FieldReader(self.image, self.label)
        listing = get_decoder_pool().map(reader.read_shard, shards)
        listing = list(track_steps("shard", listing, len(shards)))
        faults = [fault for _, found in listing for fault in found]
        if faults:
            raise RetortError(
                f"{' | '.join(shorten(faults, 'samples'))}; an image and its label are expected "
                "under one key, or name their fields in the source's 'image' and 'label'"
            )
        return [sample for found, _ in listing for sample in found]

    def index(self, split: str, cache: Path) -> FileIndex:
        """The locations of the images of "train", "val" or "test".

        Raises:
            RetortError: no shard, one that is cut off, a sample without image or label, or a label
                that is no class.
        """
        root, pattern = locate_source(self.path, cache, DEFAULT_FOLDER), getattr(self, split)
        shards = list_shards(root, pattern)
        if not shards:
            raise RetortError(f"{root}: no shard is called {pattern}; set the source's '{split}'")
        samples = self.read_shards(shards)
        for line in list_key_warnings(samples):
            log.warning("%s", line)
        names = {name: label for label, name in enumerate(self.label_names)}
        labels = names | {str(label): label for label in range(len(names))}
        check_labels(collect_labels(samples), len(names), names)
        places = [locate_sample(root, sample, labels) for sample in samples]
        table = build_index_table(places, "wds", split)
        return FileIndex(root, table, self.crop, decode=self.decode)


def check_apart(shards: Mapping[str, list[Path]]) -> None:
    """Raise RetortError if a shard is of two splits."""
    count = Counter(path for found in shards.values() for path in found)
    twice = next((path for path, times in count.items() if times > 1), None)
    if twice:
        raise RetortError(f"{twice}: is of two splits; make the patterns 'train' and 'test' differ")


def list_names_and_sizes(root: Path, shards: Mapping[str, list[Path]]) -> list[tuple[str, int]]:
    """The name below the root and the size in bytes of every shard."""
    every = [path for found in shards.values() for path in found]
    return [(str(path.relative_to(root)), path.stat().st_size) for path in every]


def locate_sample(root: Path, sample: ShardSample, labels: Mapping[str, int]) -> ImageLocation:
    """One sample's location and label."""
    shard = str(sample.shard.relative_to(root))
    return shard, sample.offset, sample.size, labels[sample.label], None
