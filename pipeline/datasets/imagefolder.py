"""Images in one folder per class, at ImageNet's size, read from there when needed.

`<path>/<train>/<class>/*` is the training split, `<path>/<test>/<class>/*` the test split, each in
a fixed random order. Without `folders` the classes are ImageNet's thousand WordNet ids, or the
numbers 0 to 999, with OpenAI's names. With `subset` the test folder is ImageNet-A or -R,
of 200 classes.
"""

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.data import imagenet
from pipeline.data.file_index import (
    FileIndex,
    ImageLocation,
    build_index_table,
    check_header,
    check_options,
    label_folders,
    list_class_names,
)
from pipeline.data.image_folder import list_images, locate_source
from pipeline.data.lazy_images import get_decoder_pool
from pipeline.errors import RetortError
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


@dataclass(frozen=True)
class Images:
    """Images in class folders.

    Attributes:
        path: the top folder, as given or below the data folder. Not in the key.
        version: a name for their content, to be changed with it.
        train: folder of the training images below it; "." is the path itself.
        test: folder of the test images.
        size: side of the centre crop, in pixels.
        crop: share of the shorter side that it keeps; 1 for images that are already cropped.
        folders: names of the class folders in label order; ImageNet's thousand unless given.
        names: class names in the same order, for prompts; the folders' or OpenAI's unless given.
        subset: "a" or "r": the test images are of that data set's 200 classes, and predictions are
            made among these only.
        levels: folders between `test` and the classes, such as ImageNet-C's two: the images of
            `gaussian_noise/1` are then the test set's part "gaussian_noise-1".
    """

    path: str = field(default="", metadata={"outside": True})
    version: str = ""
    train: str = "train"
    test: str = "val"
    size: int = 224
    crop: float = 0.875
    folders: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    subset: str = ""
    levels: int = 0

    def __post_init__(self):
        check_options(self.version, self.size, self.crop)
        if self.subset not in ("", *imagenet.SUBSETS):
            raise ValueError(f"subset: '{self.subset}' is none; give a or r, or leave it out")
        if self.subset and self.folders:
            raise ValueError("subset: goes with ImageNet's classes; drop it, or 'folders'")
        list_class_names(self.folders, self.names)

    @property
    def sizes(self) -> dict[str, int | None]:
        """Rows of the splits, None: known only when the folders are listed."""
        return {"train": None, "test": None}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C,H,W)."""
        return 3, self.size, self.size

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return list_class_names(self.folders, self.names)

    def index(self, split: str, cache: Path) -> FileIndex:
        """The locations of the images of "train" or "test".

        Raises:
            RetortError: a folder is missing, is no class or holds no image; or a file is no image.
        """
        root = locate_source(self.path, cache, "imagenet")
        top = root / (self.train if split == "train" else self.test)
        levels = self.levels if split == "test" else 0
        found = sorted(top.glob("/".join("*" * levels))) if levels else [top]
        parts = [part for part in found if part.is_dir()]
        if not parts:
            raise RetortError(f"{top}: no such folder; check the source's 'path' and '{split}'")
        places = [
            place for part in parts for place in self.list_part_images(root, top, part, split)
        ]
        scored = imagenet.load_subset_labels(self.subset) if self.subset and split == "test" else ()
        return FileIndex(root, build_index_table(places, "imagefolder", split), self.crop, scored)

    def list_part_images(
        self, root: Path, top: Path, part: Path, split: str
    ) -> list[ImageLocation]:
        """The images of one part, sorted by class and name."""
        wanted, subset = self.list_class_folders(split), self.subset and split == "test"
        labels = label_folders([p.name for p in part.iterdir() if p.is_dir()], wanted, part)
        numbers = imagenet.load_subset_labels(self.subset) if subset else range(len(wanted))
        group = "-".join(part.relative_to(top).parts) or None
        listing = get_decoder_pool().map(lambda name: list_class_files(root, part / name), labels)
        listing = track_steps("class", listing, len(labels))
        return [
            (file, 0, size, numbers[label], group)
            for label, found in zip(labels.values(), listing, strict=True)
            for file, size in found
        ]

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


def list_class_files(root: Path, folder: Path) -> list[tuple[str, int]]:
    """The images of a class folder, sorted: path below the root, size in bytes.

    Raises:
        RetortError: there is no image, or a file does not begin as an image does.
    """
    found = []
    for path in list_images(folder):
        with path.open("rb") as file:
            check_header(file, str(path))
        found.append((str(path.relative_to(root)), path.stat().st_size))
    return found
