"""The options of the verbs on finished models."""

from pathlib import Path

from pipeline.cli.parsing.verb_parser import add_configured_verb
from pipeline.discovery import list_builtin_names

NAME_HELP = "a student or teacher: <kind>/<name>, a name, <kind>/<key> or a key"


def add_model_verbs(verbs) -> None:
    """What is done with a finished model."""
    module, example = ("cli.models", "export_model"), "export student/adaad-0 --to onnx exported"
    what = "write a student or teacher in a form that another tool reads, and check it there"
    verb = add_configured_verb(verbs, "export", module, what, example, files=1)
    verb.add_argument("name", help=NAME_HELP)
    forms = list_builtin_names("export.forms")
    verb.add_argument("--to", choices=forms, required=True, dest="form", help="which form")
    verb.add_argument("out", type=Path, metavar="DIR", help="a new or empty folder")
    licence = "the licence that a model card names; none unless given"
    verb.add_argument("--license", metavar="ID", default="", help=licence)
    module, example = ("cli.models", "predict_images"), "predict student/adaad-0 photos/cat --csv"
    what = "print the classes of images, with probabilities"
    verb = add_configured_verb(verbs, "predict", module, what, example, files=1)
    verb.add_argument("name", help=NAME_HELP)
    images = "image files, or folders with images"
    verb.add_argument("images", type=Path, nargs="+", metavar="IMAGE|FOLDER", help=images)
    verb.add_argument("--csv", action="store_true", help="print a column for each class")
