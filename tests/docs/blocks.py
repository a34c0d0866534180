"""The code blocks of the documentation, and what each is for.

A comment before a block says how it is tested, and is seen by no reader:

    <!-- block: plan -->         a whole configuration; it is planned
    <!-- block: merge small -->  a part of one, merged onto a base; the whole is planned
    <!-- block: run -->          commands that run in the store of the tiny experiment
    <!-- block: parse -->        commands that the real parsers must understand
    <!-- block: execute -->      Python that runs in that store
    <!-- block: plugin objectives/kd2 -->  a plug-in's file; `retort check` tries it
    <!-- block: output -->       what a reader sees, such as a tree of files; it is not run
    <!-- block: picture -->      a drawing in Mermaid
"""

import re
import shlex
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path

import yaml
from markdown_it import MarkdownIt

from tests.helpers.graph import ROOT

LANGUAGES = {  # what a block of each kind is written in
    "plan": "yaml",
    "merge": "yaml",
    "run": "sh",
    "parse": "sh",
    "execute": "python",
    "plugin": "python",
    "output": "text",
    "picture": "mermaid",
}
BASES = {
    "small": ROOT / "tests" / "helpers" / "small.yaml",
    "photos": ROOT / "tests" / "docs" / "bases" / "photos.yaml",
    "imagenet": ROOT / "tests" / "docs" / "bases" / "imagenet.yaml",
}
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")
MARK = re.compile(r"<!-- block: (\w+)(?: ([\w/]+))? -->")
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
    *sorted((ROOT / "benchmarks" / "results").glob("*.md")),
]


@dataclass(frozen=True)
class Block:
    """A code block: its place, language, text, and the kind that its comment states.

    ``base`` is what a part of a configuration is merged onto, or the name of a plug-in's file.
    """

    place: str
    language: str
    text: str
    kind: str
    base: str

    @property
    def commands(self) -> list[list[str]]:
        """Its commands as words, without comments, variables before them, and `.venv/bin/`."""
        lines = re.sub(r" > \S+$", "", self.text, flags=re.MULTILINE)
        lines = lines.replace("\\\n", " ").replace("&&", "\n").splitlines()
        split = (shlex.split(line, comments=True) for line in lines)
        found = [list(dropwhile(ASSIGNMENT.fullmatch, words)) for words in split]
        return [[words[0].removeprefix(".venv/bin/"), *words[1:]] for words in found if words]

    @property
    def values(self) -> dict:
        """The configuration that it is, or that it makes of its base; `sha256: …` is any sum."""
        own = yaml.safe_load(self.text.replace("sha256: …", f"sha256: '{'0' * 64}'"))
        if self.kind == "plan":
            return own
        return merge_sections(yaml.safe_load(BASES[self.base].read_text()), own)


def merge_sections(base: dict, own: dict) -> dict:
    """A configuration with entries of another put in, or in the place of those of the same name."""
    merged = dict(base)
    for name, section in own.items():
        both = isinstance(section, dict) and isinstance(base.get(name), dict)
        merged[name] = base[name] | section if both else section
    return merged


def list_blocks(page: Path) -> list[Block]:
    """The code blocks of a page, in order."""
    found, mark = [], None
    for token in MarkdownIt().parse(page.read_text()):
        if token.type == "html_block":
            mark = MARK.search(token.content)
        elif token.type in ("fence", "code_block"):
            kind, base = mark.groups("") if mark else ("", "")
            place = f"{page.relative_to(ROOT)}:{token.map[0] + 1}"
            found.append(Block(place, token.info.strip(), token.content, kind, base))
            mark = None
        elif token.nesting != -1:
            mark = None
    return found


BLOCKS = [block for page in PAGES for block in list_blocks(page)]
