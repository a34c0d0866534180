"""What tar shards of WebDataset hold: samples by key, their fields, and the shards of each split.

The plan asks this module as the data set does. It has no REVISION: the order of the samples is the
shards' own.
"""

import hashlib
import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from braceexpand import braceexpand

from pipeline.data.file_index import describe_header
from pipeline.data.folder_layout import SPLIT_NAMES, is_hidden, list_subfolders
from pipeline.data.image_folder import IMAGE_SUFFIXES, SHOWN_FILES
from pipeline.errors import RetortError, explain_denied_reading
from pipeline.store.artefact import read_json, write_json

TAR_BLOCK_BYTES = 512  # a tar file ends with two empty blocks
LONGEST_KEY = 128  # characters
LABEL_KINDS = ("cls", "json")  # last parts of the names of label fields, in order of preference
LABEL_KEYS = ("label", "cls", "class", "class_id", "target")  # of a label in a JSON object
NUMBER = re.compile(r"-?\d+")
CLASS_FILES = ("classnames.txt", "classes.txt")


@dataclass(frozen=True)
class ShardSample:
    """One sample: its shard, key, the image's place in bytes, and the label's text."""

    shard: Path
    key: str
    offset: int
    size: int
    label: str


@dataclass(frozen=True)
class FieldReader:
    """Reads samples out of a shard; ``image`` and ``label`` name the fields, "" finds them."""

    image: str = ""
    label: str = ""

    def read_shard(self, shard: Path) -> tuple[list[ShardSample], list[str]]:
        """The samples of a shard in its order, and what is wrong with the others.

        Raises:
            RetortError: the shard is cut off, even between two members.
        """
        samples: dict[str, dict[str, tarfile.TarInfo]] = {}
        faults, end = [], 0
        try:
            with explain_denied_reading(shard), tarfile.open(shard, "r:") as tar:
                for member in filter(tarfile.TarInfo.isfile, tar):
                    end = member.offset_data + -(-member.size // TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES
                    key, kind = split_name(member.name)
                    if not kind:
                        continue
                    fields = samples.setdefault(key, {})
                    if kind in fields:
                        faults.append(f"{shard}: key '{key}' has its field '{kind}' twice")
                    fields[kind] = member
                found = [self.read_sample(tar, shard, key, f) for key, f in samples.items()]
        except (tarfile.TarError, OSError, UnicodeDecodeError) as error:
            remedy = "fetch it again"
            raise RetortError(f"{shard}: not a complete tar file ({error}); {remedy}") from error
        if not samples or shard.stat().st_size < end + 2 * TAR_BLOCK_BYTES:
            raise RetortError(
                f"{shard}: ends after {len(samples)} samples, cut off; fetch it again"
            )
        faults += [fault for fault in found if isinstance(fault, str)]
        return [sample for sample in found if not isinstance(sample, str)], faults

    def read_sample(
        self, tar: tarfile.TarFile, shard: Path, key: str, fields: dict[str, tarfile.TarInfo]
    ) -> ShardSample | str:
        """One sample, or what is wrong with it."""
        where, names = f"{shard}: sample '{key}'", ", ".join(sorted(fields))
        images = self.list_image_fields(fields)
        labels = self.list_label_fields(fields)
        if len(images) > 1:
            return f"{where} has the images {', '.join(images)}: name one in the source's 'image'"
        if not images or not labels:
            lacking = "no label" if images else "no image"
            member = fields[images[0]] if images else None
            fault = describe_header(tar.extractfile(member)) if member else ""
            also = f"; {member.name}: {fault}" if fault else ""
            return f"{where} has {lacking} (its fields are {names}){also}"
        text = tar.extractfile(fields[labels[0]]).read().decode().strip()
        label = parse_label(text) if labels[0].endswith("json") else text
        if label is None:
            return f"{where} has no label under {' or '.join(LABEL_KEYS)} in its JSON"
        image = fields[images[0]]
        return ShardSample(shard, key, image.offset_data, image.size, label)

    def list_image_fields(self, fields: Iterable[str]) -> list[str]:
        """Names of the fields that may be the image: the named one, or one without a dot first."""
        if self.image:
            return [name for name in fields if name == self.image]
        found = [name for name in fields if f".{name.rpartition('.')[2]}" in IMAGE_SUFFIXES]
        return [name for name in found if "." not in name] or found

    def list_label_fields(self, fields: Iterable[str]) -> list[str]:
        """Names of the fields that may be the label, the best first."""
        if self.label:
            return [name for name in fields if name == self.label]
        found = [name for name in fields if name.rpartition(".")[2] in LABEL_KINDS]
        return sorted(
            found, key=lambda name: (LABEL_KINDS.index(name.rpartition(".")[2]), name.count("."))
        )


def split_name(name: str) -> tuple[str, str]:
    """Key and field of a member's name, as WebDataset splits it; no field for a hidden file."""
    from webdataset.tariterators import base_plus_ext  # slow to import

    key, kind = base_plus_ext(name)
    hidden = key is None or any(is_hidden(part) for part in name.split("/") if part != ".")
    return ("", "") if hidden else (key.removeprefix("./"), kind.lower())


def parse_label(text: str) -> str | None:
    """The label in a JSON number, text or object; None if there is none, or the text is no JSON."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if isinstance(value, dict):
        value = next((value[key] for key in LABEL_KEYS if key in value), None)
    is_label = isinstance(value, int | str) and not isinstance(value, bool)
    return str(value).strip() if is_label else None


def find_shard_patterns(root: Path) -> dict[str, str]:
    """The pattern of each split's shards below a root, by name or by folder.

    Without shards called test, validation shards are the test shards. Where no name tells a split,
    all shards are for training.

    Raises:
        RetortError: there is no shard.
    """
    folders = {name.lower(): name for name in list_subfolders(root)}
    found = {}
    for split, names in SPLIT_NAMES.items():
        patterns = [f"*{name}*.tar" for name in names]
        patterns += [f"{folders[name]}/*.tar" for name in names if name in folders]
        found |= next(({split: p} for p in patterns if any(root.glob(p))), {})
    if not found and any(root.glob("*.tar")):
        return {"train": "*.tar"}
    if not found:
        raise RetortError(f"{root}: holds no shard (*.tar)")
    if "val" in found and "test" not in found:
        found["test"] = found.pop("val")
    return found


def list_shards(root: Path, pattern: str) -> list[Path]:
    """The shards of a pattern, sorted; the pattern may have braces, such as `{000..009}`.

    Raises:
        RetortError: it is no pattern.
    """
    try:
        return sorted({path for each in braceexpand(pattern) for path in root.glob(each)})
    except (ValueError, NotImplementedError) as error:  # of braces; of a path from the root
        raise RetortError(f"{root}: '{pattern}' is no pattern of shards ({error})") from error


def read_class_names(folders: Iterable[Path]) -> tuple[str, ...]:
    """The lines of the first `classnames.txt` or `classes.txt` in some folders; () without one.

    Raises:
        RetortError: a name is there twice, or the file is not UTF-8.
    """
    for path in (folder / name for folder in folders for name in CLASS_FILES):
        if path.is_file():
            try:
                names = tuple(filter(None, map(str.strip, path.read_text("utf-8").splitlines())))
            except UnicodeDecodeError as error:
                raise RetortError(f"{path}: is not UTF-8; convert it") from error
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                raise RetortError(f"{path}: '{twice[0]}' is there twice; make the names differ")
            return names
    return ()


def list_key_warnings(samples: Iterable[ShardSample]) -> list[str]:
    """Keys that are in several shards or longer than 128 characters, each with its shards."""
    shards: dict[str, list[Path]] = {}
    for sample in samples:
        shards.setdefault(sample.key, []).append(sample.shard)
    twice = [
        f"key '{key}' is in {' and '.join(path.name for path in found)}"
        for key, found in shards.items()
        if len(found) > 1
    ]
    long = [
        f"key '{key[:40]}…' of {len(key)} characters is in {found[0].name}; "
        f"more than {LONGEST_KEY} are cut by other readers"
        for key, found in shards.items()
        if len(key) > LONGEST_KEY
    ]
    return [line for lines in (twice, long) for line in shorten(lines, "keys")]


def shorten(lines: Sequence[str], what: str) -> Iterator[str]:
    """The first twenty lines, and one that says how many more there are."""
    yield from lines[:SHOWN_FILES]
    if len(lines) > SHOWN_FILES:
        yield f"and {len(lines) - SHOWN_FILES} more {what} of that sort"


def collect_labels(samples: Iterable[ShardSample]) -> dict[str, str]:
    """The labels of some samples, each with the first sample that has it."""
    found: dict[str, str] = {}
    for sample in samples:
        found.setdefault(sample.label, f"{sample.shard}: sample '{sample.key}'")
    return found


def check_labels(labels: Mapping[str, str], count: int, names: Collection[str] = ()) -> None:
    """Raise RetortError unless each label is a class's name or a number from 0 to ``count`` - 1."""
    strange = sorted(labels.keys() - {str(label) for label in range(count)} - set(names))
    numbers = [int(label) for label in labels if NUMBER.fullmatch(label)]
    if numbers and len(numbers) == len(labels) and min(numbers) == 1 and max(numbers) == count:
        raise RetortError(
            f"{labels[str(count)]} is of class '{count}': the labels are 1 to {count}, they start "
            "at 1; write them anew from 0"
        )
    if strange:
        raise RetortError(
            f"{labels[strange[0]]} is of class '{strange[0]}', none of the {count} classes; labels "
            f"are 0 to {count - 1}, or names that the source's 'folders' lists"
        )


def name_classes(labels: Mapping[str, str]) -> tuple[str, ...]:
    """Classes where no file names them: the numbers from 0 to the largest label, or the texts.

    Raises:
        RetortError: the numbers do not start at 0, or there is one class.
    """
    if all(NUMBER.fullmatch(label) for label in labels):
        least, largest = min(map(int, labels)), max(map(int, labels))
        check_labels(labels, largest if least == 1 else largest + 1)
        if least:
            first = str(least)
            raise RetortError(f"{labels[first]} has the least label, {least}; labels start at 0")
        found = tuple(map(str, range(largest + 1)))
    else:
        found = tuple(sorted(labels))
    if len(found) < 2:
        raise RetortError(f"every label is '{found[0]}'; two classes or more are wanted")
    return found


def make_note_path(cache: Path, about: str) -> Path:
    """The file that keeps what was counted in the shards that ``about`` describes."""
    return cache / ".shards" / f"{hashlib.sha256(about.encode()).hexdigest()[:24]}.json"


def read_counts(
    note: Path,
    shards: Mapping[str, Sequence[Path]],
    read: Callable[[Sequence[Path]], list[ShardSample]],
) -> tuple[dict[str, int], dict[str, str]]:
    """Samples by split, and the labels with a sample of each; kept in a note for the next plan.

    Args:
        note: a file named after everything that is counted.
        shards: the shards of each split.
        read: gives the samples of some shards.
    """
    if note.exists():
        kept = read_json(note, "delete it")
        return kept["counts"], kept["labels"]
    counts: dict[str, int] = {}
    labels: dict[str, str] = {}
    for split, some in shards.items():
        samples = read(some)
        counts[split] = len(samples)
        labels = collect_labels(samples) | labels
    folder = next(place for place in note.parents if place.exists())
    if os.access(folder, os.W_OK):
        write_json(note, {"counts": counts, "labels": labels})
    return counts, labels
