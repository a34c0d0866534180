"""WebDataset shards at ImageNet's size: tar files that are read member by member, not unpacked.

`<path>/<train>` and `<path>/<test>` are patterns of tar files. A sample is an image (`.jpg`,
`.jpeg`, `.png`) and its label (`.cls`, a number, or a class folder's name) under one key. Both
splits are in a fixed random order.
"""

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.data import imagenet
from pipeline.data.file_index import (
    FileIndex,
    ImageLocation,
    build_index_table,
    check_header,
    check_options,
    list_class_names,
)
from pipeline.data.image_folder import IMAGE_SUFFIXES, locate_source
from pipeline.data.lazy_images import get_decoder_pool
from pipeline.errors import RetortError, explain_denied_reading
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

TAR_BLOCK_BYTES = 512  # a tar file ends with two empty blocks


@dataclass(frozen=True)
class Images:
    """Images in tar shards.

    Attributes:
        path: their folder, as given or below the data folder. Not in the key.
        version: a name for their content, to be changed with it.
        train: pattern of the training shards below it.
        test: pattern of the test shards.
        size: side of the centre crop, in pixels.
        crop: share of the shorter side that it keeps; 1 for images that are already cropped.
        folders: WordNet ids or other names of the classes in label order; ImageNet's thousand
            unless given.
        names: class names in the same order, for prompts; OpenAI's unless given.
    """

    path: str = field(default="", metadata={"outside": True})
    version: str = ""
    train: str = "*train*.tar"
    test: str = "*val*.tar"
    size: int = 224
    crop: float = 0.875
    folders: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def __post_init__(self):
        check_options(self.version, self.size, self.crop)
        list_class_names(self.folders, self.names)

    @property
    def sizes(self) -> dict[str, int | None]:
        """Rows of the splits, None: known only when the shards are read."""
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
            RetortError: no shard, one that is cut off, or a sample without image or label.
        """
        root, pattern = locate_source(self.path, cache, "imagenet-shards"), getattr(self, split)
        shards = sorted(root.glob(pattern))
        if not shards:
            raise RetortError(f"{root}: no shard is called {pattern}; set the source's '{split}'")
        names = {
            name: label for label, name in enumerate(self.folders or imagenet.load_wordnet_ids())
        }
        labels = names | {str(label): label for label in range(len(names))}
        listing = get_decoder_pool().map(
            lambda shard: list_shard_images(root, shard, labels), shards
        )
        tracked = track_steps("shard", listing, len(shards))
        places = [place for found in tracked for place in found]
        return FileIndex(root, build_index_table(places, "wds", split), self.crop)


def list_shard_images(root: Path, shard: Path, labels: Mapping[str, int]) -> list[ImageLocation]:
    """The locations and labels of a shard's images, in the shard's order.

    Raises:
        RetortError: the shard is cut off, even between two members; or it holds a sample without
            image or label, a label that is no class, or a file that is no image.
    """
    samples: dict[str, dict] = {}
    end = 0
    try:
        with explain_denied_reading(shard), tarfile.open(shard, "r:") as tar:
            for member in filter(tarfile.TarInfo.isfile, tar):
                folder, _, name = member.name.rpartition("/")
                key, _, kind = name.partition(".")
                sample = samples.setdefault(f"{folder}/{key}".lstrip("/"), {})
                if f".{kind.lower()}" in IMAGE_SUFFIXES:
                    check_header(tar.extractfile(member), f"{shard}: {member.name}")
                    sample["image"] = member.offset_data, member.size
                elif kind == "cls":
                    sample["label"] = tar.extractfile(member).read().decode().strip()
                end = member.offset_data + -(-member.size // TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES
    except (tarfile.TarError, OSError, UnicodeDecodeError) as error:
        raise RetortError(f"{shard}: not a complete tar file ({error}); fetch it again") from error
    if not samples or shard.stat().st_size < end + 2 * TAR_BLOCK_BYTES:
        raise RetortError(f"{shard}: ends after {len(samples)} samples, cut off; fetch it again")
    return [locate_sample(root, shard, key, sample, labels) for key, sample in samples.items()]


def locate_sample(
    root: Path, shard: Path, key: str, sample: dict, labels: Mapping[str, int]
) -> ImageLocation:
    """One sample's location and label.

    Raises:
        RetortError: it lacks an image or label, or its label is no class.
    """
    lacking = next((what for what in ("image", "label") if what not in sample), None)
    if lacking:
        raise RetortError(
            f"{shard}: sample '{key}' has no {lacking}; an image (.jpg, .png) and its label (.cls) "
            "are expected under one key"
        )
    if sample["label"] not in labels:
        raise RetortError(
            f"{shard}: sample '{key}' is of class '{sample['label']}', none of the "
            f"{1 + max(labels.values())} classes; list them in the source's 'folders'"
        )
    return str(shard.relative_to(root)), *sample["image"], labels[sample["label"]], None
