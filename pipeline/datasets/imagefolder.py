"""Images in one folder per class, of any size, read from there when needed.

`<path>/<train>/<class>/*` is the training split, `<path>/<test>/<class>/*` the test split, each in
a fixed random order. What is left out of `version`, `folders`, `train`, `val` and `test` is found
in the folder (``find``). Where the folder cannot be looked at, or holds ImageNet, the classes are
ImageNet's thousand WordNet ids, or the numbers 0 to 999, with OpenAI's names. With `subset` the
test folder is ImageNet-A or -R, of 200 classes.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.data import imagenet
from pipeline.data.file_index import (
    FileIndex,
    ImageLocation,
    build_index_table,
    check_options,
    label_folders,
    list_class_names,
)
from pipeline.data.folder_layout import (
    VERSION_PREFIX,
    ClassFiles,
    FoundImages,
    check_version,
    compute_version,
    describe_ignored,
    describe_version,
    find_split_folders,
    list_subfolders,
    scan_class_folder,
)
from pipeline.data.image_folder import describe_missing, find_source, locate_source
from pipeline.data.lazy_images import get_decoder_pool
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

DEFAULT_FOLDER = "imagenet"
DEFAULT_SPLITS = {"train": "train", "val": "", "test": "val"}  # options whose folders are found
PASTED_CLASSES = 20  # class folders that an error lists

log = logging.getLogger("retort")


@dataclass(frozen=True)
class Images:
    """Images in class folders.

    Attributes:
        path: the top folder, as given or below the data folder. Not in the key.
        version: a name for their content, to be changed with it; a digest over the files' names
            and sizes unless given.
        train: folder of the training images below it; "." is the path itself.
        val: folder of the validation images; "": they are taken from the training images.
        test: folder of the test images; "": there is none.
        size: side of the centre crop, in pixels, to which images of any size are resized.
        crop: share of the shorter side that it keeps; 1 for images that are already cropped.
        folders: names of the class folders in label order; found, or ImageNet's, unless given.
        names: class names in the same order, for prompts; the folders' or OpenAI's unless given.
        subset: "a" or "r": the test images are of that data set's 200 classes, and predictions are
            made among these only.
        levels: folders between `test` and the classes, such as ImageNet-C's two: the images of
            `gaussian_noise/1` are then the test set's part "gaussian_noise-1".
        decode: "plain" reads the stored colours; "as_seen" also turns images by their EXIF tag,
            scales 16 bits to 8 and puts transparent pixels on white.
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
    subset: str = ""
    levels: int = 0
    decode: str = field(default="plain", metadata={"neutral": "plain"})

    def __post_init__(self):
        places = {split: getattr(self, split) for split in DEFAULT_SPLITS}
        check_options(self.size, self.crop, self.decode, places)
        if self.subset not in ("", *imagenet.SUBSETS):
            raise ValueError(f"subset: '{self.subset}' is unknown; give a or r, or leave it out")
        if self.subset and self.folders:
            raise ValueError("subset: goes with ImageNet's classes; drop it, or 'folders'")
        list_class_names(self.folders, self.names)

    @property
    def sizes(self) -> dict[str, int | None]:
        """Rows of the splits, None: known only when the folders are listed."""
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

        A configuration that gives version and counts is planned without its images: the folder is
        then looked at only where it is there, and only for the names of the classes.

        Raises:
            RetortError: the folder is missing, holds no class folders, or some of ImageNet's.
        """
        looks = counts or not self.version
        root = find_source(self.path, cache, DEFAULT_FOLDER)
        if root is None and looks:
            missing = describe_missing(self.path, cache, DEFAULT_FOLDER)
            raise RetortError(f"path: {missing}; set it to the folder of your images")
        if root is None or not (looks or not (self.folders or self.subset)):
            return FoundImages()
        whole = replace(self, **self.find_splits(root)) if looks else self
        whole = replace(whole, folders=whole.find_classes(root, looks))
        options = {name: getattr(whole, name) for name in (*DEFAULT_SPLITS, "folders")}
        return whole.count_images(root, options) if looks else FoundImages(options)

    def find_splits(self, root: Path) -> dict[str, str]:
        """The folders of the splits: those given, or found if none is."""
        given = {split: getattr(self, split) for split in DEFAULT_SPLITS}
        if given != DEFAULT_SPLITS or self.subset or self.levels:
            return given
        why = (
            "path: " if self.version else "version: give a name for the files' content, or files: "
        )
        with prefix_errors(why):
            found = find_split_folders(root)
        return {"train": found.get("train", given["train"])} | {
            split: found.get(split, "") for split in ("val", "test")
        }

    def find_classes(self, root: Path, looks: bool) -> tuple[str, ...]:
        """The class folders in label order; empty for ImageNet's thousand.

        Raises:
            RetortError: with ``looks``: only some of ImageNet's classes; or a single class.
        """
        tops = [top for split in DEFAULT_SPLITS for top in self.list_parts(root, split)]
        found = list_subfolders(tops[0]) if tops else []
        thousand = imagenet.load_wordnet_ids()
        if self.folders or self.subset or not found:
            return self.folders
        if set(found) <= set(thousand):
            if looks and len(found) < len(thousand):
                shown = ", ".join(found) if len(found) <= PASTED_CLASSES else f"{found[0]}, …"
                raise RetortError(
                    f"folders: {tops[0]} holds {len(found)} of ImageNet's {len(thousand)} classes; "
                    f"complete them, or say that these are all: folders: [{shown}]"
                )
            return ()
        if len(found) == 1:
            raise RetortError(
                f"path: {tops[0]} holds one class folder, '{found[0]}'; two or more are wanted"
            )
        return () if found == [str(i) for i in range(len(thousand))] else tuple(found)

    def count_images(self, root: Path, options: dict) -> FoundImages:
        """The found options with each split's number of images, and a version if none is given."""
        with prefix_errors("path: "):
            places = self.list_splits(root)
        sizes = {"train": 0, "test": 0} | {split: len(found) for split, found in places.items()}
        where = ", ".join(f"{split} from '{getattr(self, split)}'" for split in places)
        notes = (f"{len(self.classes)} classes, {where}",)
        if not self.version:
            version = compute_version(list_names_and_sizes(places))
            options = options | {"version": version}
            notes += (describe_version(version, sum(sizes.values())),)
        return FoundImages(options, sizes, notes)

    def verify_version(self, cache: Path) -> None:
        """Raise RetortError if the version is a digest and the files are others."""
        if self.version.startswith(VERSION_PREFIX):
            root = locate_source(self.path, cache, DEFAULT_FOLDER)
            check_version(self.version, list_names_and_sizes(self.list_splits(root)), root)

    def index(self, split: str, cache: Path) -> FileIndex:
        """The locations of the images of "train", "val" or "test".

        Raises:
            RetortError: a folder is missing, is no class or holds no image.
        """
        root = locate_source(self.path, cache, DEFAULT_FOLDER)
        places, ignored = self.list_images(root, split)
        if ignored:
            log.info("%s: ignored: %s", getattr(self, split), describe_ignored(ignored))
        scored = imagenet.load_subset_labels(self.subset) if self.subset and split == "test" else ()
        table = build_index_table(places, "imagefolder", split)
        return FileIndex(root, table, self.crop, scored, self.decode)

    def list_parts(self, root: Path, split: str) -> list[Path]:
        """The folders of a split that hold its class folders; none if they do not exist."""
        name = getattr(self, split)
        top, levels = root / name, self.levels if split == "test" else 0
        found = sorted(top.glob("/".join("*" * levels))) if levels else [top]
        return [part for part in found if name and part.is_dir()]

    def list_splits(self, root: Path) -> dict[str, list[ImageLocation]]:
        """The images of every split that has a folder."""
        have = [
            split
            for split, usual in DEFAULT_SPLITS.items()
            if getattr(self, split) != usual or self.list_parts(root, split)
        ]
        return {s: self.list_images(root, s)[0] for s in have if getattr(self, s)}

    def list_images(self, root: Path, split: str) -> tuple[list[ImageLocation], Counter]:
        """The images of a split, and how many files are ignored, by sort."""
        top, parts = root / getattr(self, split), self.list_parts(root, split)
        if not parts:
            raise RetortError(f"{top}: no such folder; check the source's 'path' and '{split}'")
        places: list[ImageLocation] = []
        ignored: Counter = Counter()
        for part in parts:
            found, more = self.list_part_images(root, top, part, split)
            places += found
            ignored += more
        return places, ignored

    def list_part_images(
        self, root: Path, top: Path, part: Path, split: str
    ) -> tuple[list[ImageLocation], Counter]:
        """The images of one part, sorted by class and name, and what is ignored."""
        wanted, subset = self.list_class_folders(split), self.subset and split == "test"
        may_lack = bool(self.folders) and split != "train"
        labels = label_folders(list_subfolders(part), wanted, part, may_lack)
        numbers = imagenet.load_subset_labels(self.subset) if subset else range(len(wanted))
        group = "-".join(part.relative_to(top).parts) or None
        listing = get_decoder_pool().map(lambda name: scan_class_folder(part / name), labels)
        listing = list(track_steps("class", listing, len(labels)))
        found = dict(zip(labels, listing, strict=True))
        check_all_filled(part, found, may_lack)
        lacking = [name for name in wanted if name not in found or not found[name].files]
        if lacking and may_lack:
            shown = ", ".join(lacking[:PASTED_CLASSES])
            log.info("%s: no images of %d classes: %s", part, len(lacking), shown)
        below = part.relative_to(root)
        places = [
            (f"{folder}/{file}", 0, size, numbers[labels[name]], group)
            for name, about in found.items()
            for folder in [str(below / name)]
            for file, size in about.files
        ]
        return places, sum((about.ignored for about in listing), Counter())

    def list_class_folders(self, split: str) -> tuple[str, ...]:
        """Names of the class folders of a split, in label order."""
        if self.folders:
            return self.folders
        if self.subset and split == "test":
            return tuple(
                imagenet.load_wordnet_ids()[label]
                for label in imagenet.load_subset_labels(self.subset)
            )
        return imagenet.load_wordnet_ids()


def check_all_filled(part: Path, found: Mapping[str, ClassFiles], may_lack: bool) -> None:
    """Raise RetortError if class folders are empty, or all are."""
    empty = [name for name, about in found.items() if not about.files]
    if empty and (not may_lack or len(empty) == len(found)):
        deeper = any(found[name].ignored["folders"] for name in empty)
        remedy = "move the images out of the folders below" if deeper else "fill or delete them"
        shown = ", ".join(f"'{name}'" for name in empty[:PASTED_CLASSES])
        raise RetortError(f"{part}: {len(empty)} class folders hold no image: {shown}; {remedy}")


def list_names_and_sizes(places: Mapping[str, list[ImageLocation]]) -> list[tuple[str, int]]:
    """The name and size in bytes of every file of some splits."""
    return [(file, size) for found in places.values() for file, _, size, _, _ in found]
