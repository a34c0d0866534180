"""JSON files that hold the sum of their own fields, so that any edit shows."""

import hashlib
import json


def compute_manifest_sum(manifest: dict) -> str:
    """The sum of a manifest's other fields, which it stores in ``sum``."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def add_own_sum(fields: dict) -> dict:
    """Fields of a JSON file, and the sum over them as ``sum``."""
    return fields | {"sum": compute_manifest_sum(json.loads(json.dumps(fields)))}


def has_own_sum(fields: dict, known_names: set[str]) -> bool:
    """Whether a JSON file's fields agree with their ``sum``.

    A file from before there were sums agrees if it has no other fields than those known.
    """
    others = {name: value for name, value in fields.items() if name != "sum"}
    if "sum" not in fields:
        return others.keys() <= known_names
    return fields["sum"] == compute_manifest_sum(others)
