"""What the imported file of each kind must hold, and what is filled in where it holds nothing.

| kind | must hold | filled in |
|---|---|---|
| objective | a frozen dataclass ``Objective``: ``needs()``, ``__call__(roles, batch)`` | |
| attack | a frozen dataclass ``Attack``: ``__call__(model, x, y, seed)`` gives back attacked images, or with ``judge`` predictions by point | options ``n_eval`` and ``chunk`` |
| data set | ``SHAPE``, ``CLASSES`` and ``load(split, cache)``, or a frozen dataclass ``Images`` | ``SIZES``: known only after reading |
| architecture | ``build(classes, channels, name)``, ``classes`` at least | ``NAME_PATTERN``: the file's name |
| generator's loss | a frozen dataclass ``Loss``: ``__call__(batch)`` | ``needs()``: the teacher; ``rounds``: False |
"""  # noqa: E501

import ast
import dataclasses
import inspect
import re
import sys
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from pipeline.contracts.own_files import OwnFile, show_path
from pipeline.contracts.source_checks import (
    CLASS_NAMES,
    find_class,
    find_line,
    find_method,
    list_numbers_without_type,
    make_form_error,
    parse_source,
)

IMAGES_PER_CALL = 500  # default of an attack's option ``chunk``
NO_OPTIONS = {"needs_whole_batch"}  # class attributes that are numbers and no options
OPTIONAL_METHODS = {  # methods that a class may have, by its kind -> what they are called with
    "objectives": {"prepare": ("roles", "batch"), "trains": ()},
    "attacks": {
        "count_passes": ("shape",),
        "explain_misfit": ("shape", "class_count"),
        "explain_variant": ("shape", "class_count"),
        "find_files": ("data",),
        "check_test_images": ("images", "labels"),
    },
    "generator_losses": {"needs": (), "prepare": ("batch",), "remember": ("batch",)},
    "datasets": {
        "load": ("split", "cache"),
        "index": ("split", "cache"),
        "find": ("cache", "counts"),
        "verify_version": ("cache",),
    },
}
BAD_TYPES = (AttributeError, NameError, SyntaxError, TypeError)  # of an annotation's evaluation


@dataclasses.dataclass(frozen=True)
class Form:
    """A plug-in's file as its form is checked."""

    folder: str
    name: str
    module: ModuleType
    path: str
    tree: ast.Module

    def refuse(self, what: str, owner: str = "", method: str = "") -> None:
        """Raises RetortError with the line of a class or its method."""
        raise make_form_error(self.folder, self.path, what, find_line(self.tree, owner, method))


def complete_plugin(folder: str, name: str, module: ModuleType, file: OwnFile) -> None:
    """Checks what a file holds, and fills in what it may leave out.

    Raises:
        RetortError: `file:line`, and what is missing.
    """
    form = Form(folder, name, module, show_path(file.path), parse_source(file))
    complete = getattr(sys.modules[__name__], f"complete_{folder}")
    complete(form)


def complete_objectives(form: Form) -> None:
    """An objective: what it needs, and its terms."""
    kind = check_dataclass(form)
    check_method(form, kind, "needs", ())
    check_method(form, kind, "__call__", ("roles", "batch"))


def complete_attacks(form: Form) -> None:
    """An attack; those without the options of every attack get them."""
    kind = check_dataclass(form)
    check_method(form, kind, "__call__", ("model", "x", "y", "seed"), ("judge",))
    known = {field.name: field for field in dataclasses.fields(kind)}
    outside = [name for name, field in known.items() if "outside" in field.metadata]
    if outside and not hasattr(kind, "find_files"):
        form.refuse(
            f"Attack.{outside[0]} lies outside; write Attack.find_files(self, data)", "Attack"
        )
    added: list[Any] = []
    for name, hint, default in (("n_eval", int | None, None), ("chunk", int, IMAGES_PER_CALL)):
        if name in known and type(known[name].default) not in (int, type(None)):
            form.refuse(f"Attack.{name} is a number of images; write '{name}: int = …'", "Attack")
        if name not in known:
            added.append(
                (name, hint, dataclasses.field(default=default, metadata={"neutral": default}))
            )
    if added:
        namespace = {"__module__": kind.__module__, "__doc__": kind.__doc__}
        form.module.Attack = dataclasses.make_dataclass(
            "Attack", added, bases=(kind,), namespace=namespace, frozen=True
        )


def complete_generator_losses(form: Form) -> None:
    """A generator's loss; without ``needs`` it looks through the teacher."""
    kind = check_dataclass(form)
    check_method(form, kind, "__call__", ("batch",))
    call = find_method(find_class(form.tree, "Loss"), "__call__")
    if call and any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(call)):
        form.refuse("Loss.__call__ yields; write 'return' before the dict", "Loss", "__call__")
    if not hasattr(kind, "needs"):
        kind.needs = lambda self: ("teacher",)
    if not hasattr(kind, "rounds"):
        kind.rounds = False


def complete_architectures(form: Form) -> None:
    """An architecture; its ``build`` may leave out arguments that it does not use."""
    module, build = form.module, getattr(form.module, "build", None)
    if not callable(build):
        form.refuse("has no function 'build(classes, channels)', which makes the network")
    taken = list_arguments(build)
    wrong = [name for name in taken if name not in ("name", "classes", "channels")]
    if wrong or "classes" not in taken:
        what = f"an argument '{wrong[0]}'" if wrong else "no argument 'classes'"
        form.refuse(f"build has {what}; write build(classes, channels)")

    def build_by_name(name: str, classes: int, channels: int = 3) -> object:
        given = {"name": name, "classes": classes, "channels": channels}
        return build(**{argument: given[argument] for argument in taken})

    module.build, module.TAKES_CHANNELS = build_by_name, "channels" in taken
    pattern = getattr(module, "NAME_PATTERN", re.escape(form.name))
    try:
        module.NAME_PATTERN = re.compile(pattern)
    except (re.error, TypeError) as error:
        form.refuse(f"NAME_PATTERN {pattern!r} is no regular expression ({error})")


def complete_datasets(form: Form) -> None:
    """A data set, with options or without."""
    unknown = {"train": None, "test": None}
    if (kind := getattr(form.module, "Images", None)) is not None:
        check_dataclass(form, "Images")
        for name in ("shape", "classes"):
            if not hasattr(kind, name):
                form.refuse(f"Images has no '{name}'", "Images")
        if not (hasattr(kind, "load") or hasattr(kind, "index")):
            form.refuse("Images has no 'load(split, cache)'", "Images")
        if not hasattr(kind, "sizes"):
            kind.sizes = unknown
        return
    module = form.module
    module.SIZES = getattr(module, "SIZES", unknown)
    shape, classes = getattr(module, "SHAPE", None), getattr(module, "CLASSES", None)
    if not (isinstance(shape, tuple | list) and len(shape) == 3 and all_positive(shape)):
        form.refuse("SHAPE is missing or not (channels, height, width); write SHAPE = (3, 32, 32)")
    whole = isinstance(classes, tuple | list) and all(isinstance(c, str) for c in classes)
    if not whole or len(set(classes)) != len(classes):
        form.refuse("CLASSES is missing or no list of different names in label order")
    if not (isinstance(module.SIZES, dict) and {"train", "test"} <= module.SIZES.keys()):
        form.refuse("SIZES does not say the rows of 'train' and 'test'; correct it or leave it out")
    if list_arguments(getattr(module, "load", None)) != ["split", "cache"]:
        form.refuse("has no function 'load(split, cache)', which gives back images and labels")


def all_positive(numbers: tuple | list) -> bool:
    """Whether all are whole numbers above 0."""
    return all(isinstance(n, int) and n > 0 for n in numbers)


def check_dataclass(form: Form, owner: str = "") -> type:
    """The plug-in's class, a dataclass whose every field has a default of a known type."""
    owner = owner or CLASS_NAMES[form.folder]
    kind = getattr(form.module, owner, None)
    if not isinstance(kind, type):
        form.refuse(f"has no class '{owner}'")
    if "__dataclass_fields__" not in vars(kind):
        form.refuse(f"{owner} is no dataclass; write @dataclass(frozen=True) above it", owner)
    is_network = any(base.__module__.startswith("torch.nn") for base in kind.__mro__)
    if not (kind.__dataclass_params__.frozen or is_network):
        form.refuse(f"{owner} can be changed; write @dataclass(frozen=True) above it", owner)
    for name, line in list_numbers_without_type(form.tree, owner):
        if name not in NO_OPTIONS:
            hint = f"write '{name}: {type(getattr(kind, name)).__name__} = …'"
            raise make_form_error(
                form.folder,
                form.path,
                f"{owner}.{name} has no type, so it is no option; {hint}",
                line,
            )
    check_fields(form, kind, owner)
    for method, wanted in OPTIONAL_METHODS[form.folder].items():
        check_optional_method(form, kind, method, wanted)
    return kind


def check_fields(form: Form, kind: type, owner: str) -> None:
    """Raises RetortError if a field has no default, or a type that no configuration can give."""
    try:
        hints = get_type_hints(kind)
    except BAD_TYPES as error:
        form.refuse(f"{owner}: the type of a field is unknown ({error})", owner)
    for field in dataclasses.fields(kind):
        if not field.init or "fixed" in field.metadata:
            continue
        if field.default is dataclasses.MISSING:
            form.refuse(f"{owner}.{field.name} has no default; write one after '='", owner)
        if hints[field.name] is float and type(field.default) is int:
            form.refuse(f"{owner}.{field.name} is a float; write {float(field.default)}", owner)
        try:
            TypeAdapter(hints[field.name]).validate_python(field.default)
        except PydanticUserError:
            form.refuse(f"{owner}.{field.name}: no configuration can give a {field.type}", owner)
        except ValidationError:
            default = f"{owner}.{field.name}: its default {field.default!r}"
            form.refuse(f"{default} does not fit its type; change one of them", owner)


def check_method(
    form: Form, kind: type, method: str, wanted: tuple[str, ...], more: tuple[str, ...] = ()
) -> None:
    """Raises RetortError unless a method takes the wanted arguments, and none but ``more``."""
    shown = f"{kind.__name__}.{method}({', '.join(('self', *wanted))})"
    found = inspect.getattr_static(kind, method, None)
    if (
        found is None
        or not callable(found)
        or method not in {n for c in kind.__mro__[:-1] for n in vars(c)}
    ):
        form.refuse(f"has no {shown}", kind.__name__)
    taken = list_arguments(found)[1:]
    if taken[: len(wanted)] != list(wanted) or not set(taken[len(wanted) :]) <= set(more):
        got = f"({', '.join(('self', *taken))})"
        form.refuse(f"{kind.__name__}.{method} takes {got}; write {shown}", kind.__name__, method)


def check_optional_method(form: Form, kind: type, method: str, wanted: tuple[str, ...]) -> None:
    """Raises RetortError if a method is there, but cannot be called with the wanted arguments."""
    found = getattr(kind, method, None)
    if found is None:
        return
    shown = f"{kind.__name__}.{method}({', '.join(('self', *wanted))})"
    if not callable(found):
        form.refuse(f"{kind.__name__}.{method} is no method; write {shown}", kind.__name__)
    is_bound = isinstance(inspect.getattr_static(kind, method), staticmethod | classmethod)
    try:
        inspect.signature(found).bind(*(None for _ in (*wanted, *([] if is_bound else ["self"]))))
    except TypeError:
        got = f"({', '.join(list_arguments(found))})"
        form.refuse(f"{kind.__name__}.{method} takes {got}; write {shown}", kind.__name__, method)


def list_arguments(function: Any) -> list[str]:
    """The names of a function's arguments; empty for what is no function, or is built in."""
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []
