"""PGD-10 on a ResNet-18 beside torchattacks, foolbox and ART: `python -m benchmarks.attacks`.

All four attack the same images with radius 8/255, steps of 2/255 and a uniform start, each as its
users call it on a model in eval mode. On one thread; CPU seconds.
"""

import copy
import importlib.util
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.timing import (
    Settings,
    describe_run,
    divide,
    format_profile,
    format_table,
    parse_settings,
    show,
    summarise,
    take_turns,
    write_result,
)
from pipeline.core.attack_protocol import load_foolbox
from pipeline.core.devices.bf16_products import has_bf16_instructions, widen_products
from pipeline.core.losses import cross_entropy
from pipeline.core.pgd import freeze_modules, run_pgd
from pipeline.core.seeding import make_generator
from pipeline.core.threat_models import Linf
from pipeline.models.classifier import initialise_classifier

EPS, STEP, STEPS, CLASSES = 8 / 255, 2 / 255, 10, 10
PACKAGES = ("torchattacks", "foolbox", "adversarial-robustness-toolbox")


def attack_with_retort(
    model: nn.Module, x: Tensor, y: Tensor, dtype: torch.dtype | None = None
) -> Callable[[], Tensor]:
    """Our PGD."""

    def attack() -> Tensor:
        with freeze_modules(model), widen_products(x.device, dtype is not None):
            return run_pgd(
                x,
                lambda z: cross_entropy(model(z), y),
                Linf(EPS),
                steps=STEPS,
                step_size=STEP,
                start="uniform",
                rng=make_generator(0, "benchmark"),
                dtype=dtype,
            )

    return attack


def attack_with_torchattacks(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    """torchattacks' PGD."""
    import torchattacks

    pgd = torchattacks.PGD(model, eps=EPS, alpha=STEP, steps=STEPS, random_start=True)
    return lambda: pgd(x, y)


def attack_with_foolbox(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    """foolbox's LinfPGD."""
    foolbox = load_foolbox()
    pgd = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS, random_start=True)
    target = foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
    return lambda: pgd(target, x, y, epsilons=EPS)[1]


def attack_with_art(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    """ART's PGD for PyTorch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from art.attacks.evasion import ProjectedGradientDescent
        from art.estimators.classification import PyTorchClassifier
    target = PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=CLASSES,
        clip_values=(0, 1),
        device_type="cpu",
    )
    pgd = ProjectedGradientDescent(
        target,
        eps=EPS,
        eps_step=STEP,
        max_iter=STEPS,
        num_random_init=1,
        batch_size=len(x),
        verbose=False,
    )
    images, labels = x.numpy(), y.numpy()
    return lambda: torch.from_numpy(pgd.generate(images, labels))


def check_examples(works: dict[str, Callable[[], Tensor]], x: Tensor) -> None:
    """Raise unless every attack returns other images within the ball."""
    for name, attack in works.items():
        distance = (attack() - x).abs().max().item()
        assert 0.5 * EPS < distance <= EPS + 1e-5, f"{name}: largest change {distance}"


def build_works(settings: Settings) -> tuple[dict[str, Callable[[], Tensor]], Tensor, str]:
    """The attacks by name, the images that they attack, and what is attacked, in words."""
    name = "resnet18-w16" if settings.quick else "resnet18"
    model = initialise_classifier(name, CLASSES, (0.5,) * 3, (0.25,) * 3, 0).eval()
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(settings.scale(32, least=4), 3, 32, 32, generator=rng)
    y = torch.arange(len(x)) % CLASSES
    works = {"Retort": attack_with_retort(model, x, y)}
    if importlib.util.find_spec("torchattacks"):
        works["torchattacks"] = attack_with_torchattacks(model, x, y)
    works["foolbox"] = attack_with_foolbox(model, x, y)
    works["ART"] = attack_with_art(model, x, y)
    check_examples(works, x)
    works["Retort, bf16"] = attack_with_retort(model, x, y, torch.bfloat16)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    images = x.contiguous(memory_format=torch.channels_last)
    works["Retort, bf16, channels_last"] = attack_with_retort(last, images, y, torch.bfloat16)
    return works, x, f"{name}, {len(x)} images of 32 px"


def main() -> None:
    """Measure and write `attacks.md`."""
    settings = parse_settings(__doc__.splitlines()[0])
    works, x, words = build_works(settings)
    seconds = take_turns(works, settings.rounds)
    rows, data = [], {}
    for name, found in seconds.items():
        ratio = divide(found, seconds["Retort"])
        rows.append([name, show([1000 * s / len(x) for s in found], 0), show(ratio)])
        data[name] = summarise(ratio)
    if beside := seconds.get("torchattacks"):
        for row, found in zip(rows, seconds.values(), strict=True):
            row.append(show(divide(beside, found)))
    heads = ["attack", "CPU ms an image", "time, Retort's fp32 = 1"]
    table = format_table([*heads, *(["torchattacks' time / its time"] if beside else [])], rows)
    text = f"""# PGD-10 beside other libraries

`python -m benchmarks.attacks`: {words}, a uniform start within 8/255, one thread.
{describe_run(settings, PACKAGES)}

{table}

Above 1 is slower than Retort's fp32 in the third column, and faster than torchattacks in the
fourth. foolbox and ART also compute gradients of the weights, which
an attack does not use. bf16 pays where the processor has instructions for it (AMX, AVX512-BF16);
this one has {"them" if has_bf16_instructions() else "none"}.

## Where the time goes
{
        "".join(
            f'''
{name}, one attack:

{format_profile(works[name])}
'''
            for name in ("Retort", "torchattacks")
            if name in works
        )
    }"""
    write_result(settings, "attacks", text, data)


if __name__ == "__main__":
    main()
