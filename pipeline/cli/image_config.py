"""A configuration for a folder of images."""

from pathlib import Path


def format_image_config(images: Path, folder: Path) -> str:
    """x."""
    raise NotImplementedError
