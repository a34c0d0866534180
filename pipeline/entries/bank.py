"""Banks: their teacher must know the images, and their shards must not outnumber the blocks."""

from pipeline.config import Config
from pipeline.errors import RetortError
from pipeline.fits import check_size, classes, classes_of, counted, data_of
from pipeline.plan import Entry, dumped
from pipeline.resolver import Resolver
from pipeline.sections import Bank


def entry(resolver: Resolver, name: str) -> Entry:
    """A bank of one teacher and one discretiser over a data set."""
    section, where = resolver.config.banks[name], f"banks.{name}"
    inputs = {
        "dataset": resolver.get("datasets", section.dataset, f"{where}.dataset"),
        "teacher": resolver.classifier(section.teacher, f"{where}.teacher"),
        "discretizer": resolver.get("discretizers", section.discretizer, f"{where}.discretizer"),
    }
    check_bank(resolver.config, where, section)
    spec = {**dumped(section, without=tuple(inputs)), **resolver.common()}
    return Entry("bank", name, spec, inputs)


def check_bank(config: Config, where: str, bank: Bank) -> None:
    """Raise if a bank's teacher does not know its images: their labels guide attack and filter."""
    known, own = classes(config, bank.teacher), classes_of(config, bank.dataset)
    if known != own:
        raise RetortError(
            f"{where}.teacher: '{bank.teacher}' knows {len(known)} classes, data set "
            f"'{bank.dataset}' has {counted(known, own)}; name a teacher of the same classes"
        )
    blocks = -(-config.datasets[bank.dataset].train // bank.block)
    if bank.shards > blocks:
        raise RetortError(
            f"{where}.shards: {bank.shards} shards, but its images are {blocks} blocks of "
            f"{bank.block}; set it to {blocks} or less, or make 'block' smaller"
        )
    learnt = data_of(config, bank.teacher)
    check_size(config, f"{where}.teacher", bank.teacher, learnt, bank.dataset)
