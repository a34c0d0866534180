"""The verb `bank`: damage is named and mended, tokens decode, groups merge, others are refused."""

import shutil

import pytest

from pipeline.banks.reader import read_bank
from pipeline.banks.shards import shard_name, sidecar_path
from pipeline.cli.main import main
from pipeline.errors import RetortError
from pipeline.stages import build_bank
from pipeline.store import artefact
from pipeline.store.artefact import MANIFEST_FILE, open_artefact, write_json, write_manifest
from tests.helpers.bank_store import (
    BLOCK,
    ROWS,
    SAMPLES,
    SHARDS,
    Store,
    key_of,
    shards_of,
    store_in,
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Store:
    """A store with one finished bank that no test alters."""
    store = store_in(tmp_path_factory.mktemp("tools"))
    store.made("made", **SAMPLES)
    return store


@pytest.fixture
def store(pristine, tmp_path) -> Store:
    """A copy to alter."""
    artefact.verify.cache_clear()
    shutil.copytree(pristine.path, tmp_path / "store")
    return Store(tmp_path / "store")


def tool(name: str, *arguments: object, capsys) -> tuple[int, str]:
    status = main(["bank", name, *map(str, arguments)])
    printed = capsys.readouterr()
    return status, printed.out + printed.err


def cut(store: Store, bank) -> str:
    path = bank / shard_name(1)
    path.write_bytes(path.read_bytes()[:-700])
    return r"shard-00001.tar: does not match its sidecar's sha256"


def altered(store: Store, bank) -> str:
    path = bank / shard_name(1)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return r"shard-00001.tar: does not match its sidecar's sha256"


def missing(store: Store, bank) -> str:
    (bank / shard_name(1)).unlink()
    return "shard-00001.tar: is missing"


def foreign(store: Store, bank) -> str:
    """Another bank's shard with its sidecar: it agrees with that."""
    other = store.made("other", **{**SAMPLES, "seed": 4})
    for path in (other.folder / shard_name(1), sidecar_path(other.folder / shard_name(1))):
        shutil.copy(path, bank / path.name)
    return f"shard-00001.tar: is of bank {key_of('other')}, not of {key_of('made')}"


DAMAGES = [cut, altered, missing, foreign]


@pytest.mark.parametrize("complete", [True, False], ids=["manifest", "no manifest"])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__)
def test_damage_is_named_and_that_shard_alone_is_made_again(damage, complete, store, capsys):
    bank = store.folder("bank", "made")
    before, job = shards_of(store.bank("made", **SAMPLES)), store.bank("made", **SAMPLES)
    for group in ("0-2", "2-3"):
        write_json(bank / "groups" / f"{group}.json", {})
    said = damage(store, bank)
    if complete:
        with pytest.raises(RetortError, match=r"shard-00001\.tar"):
            read_bank(bank)
    else:
        (bank / MANIFEST_FILE).unlink()
    status, printed = tool("verify", bank, capsys=capsys)
    assert status == 2
    assert said in printed
    assert "1 of 3 shards are not whole; add --mend, and 'retort run' makes those again" in printed
    status, printed = tool("verify", bank, "--mend", capsys=capsys)
    assert (status, "makes 1 of 3 shards again" in printed) == (0, True)
    assert not (bank / MANIFEST_FILE).exists()
    assert [p.name for p in (bank / "groups").iterdir()] == ["2-3.json"]
    times = {i: (bank / shard_name(i)).stat().st_mtime_ns for i in (0, 2)}
    artefact.verify.cache_clear()
    write_manifest(job, build_bank.run(job))
    assert shards_of(job) == before
    assert times == {i: (bank / shard_name(i)).stat().st_mtime_ns for i in (0, 2)}
    status, printed = tool("verify", bank, capsys=capsys)
    assert (status, "all 3 shards are whole; complete" in printed) == (0, True)


def test_a_shard_in_another_s_place_and_one_too_many(store, capsys):
    """Both halves of a shard copied over another's, and the manifest made to agree."""
    bank = store.folder("bank", "made")
    for path in (bank / shard_name(0), sidecar_path(bank / shard_name(0))):
        shutil.copy(path, bank / path.name.replace("00000", "00001"))
        shutil.copy(path, bank / path.name.replace("00000", "00007"))
    job, manifest = store.bank("made", **SAMPLES), open_artefact(bank).manifest
    manifest.files[shard_name(1)] = manifest.files[shard_name(0)]
    write_manifest(job, manifest)
    with pytest.raises(RetortError, match=r"shard-00001\.tar: does not go on at row 16"):
        read_bank(bank)
    _, printed = tool("verify", bank, capsys=capsys)
    assert "shard-00001.tar: does not hold rows 16 to 31" in printed
    assert "shard-00007.tar: is not of this bank of 3 shards; delete it" in printed
    (bank / MANIFEST_FILE).unlink()
    _, printed = tool("verify", bank, capsys=capsys)
    assert "shard-00001.tar: is shard-00000.tar under another name" in printed
    manifest.files[shard_name(7)] = manifest.files[shard_name(0)]
    write_manifest(job, manifest)
    with pytest.raises(RetortError, match=r"shard-00007\.tar: is not of this bank of 3 shards"):
        read_bank(bank)


def test_info_counts(store, capsys):
    status, printed = tool("info", store.folder("bank", "made"), capsys=capsys)
    facts = open_artefact(store.folder("bank", "made")).manifest.facts
    assert status == 0
    for words in (
        f"{SHARDS} of blocks of {BLOCK} rows",
        f"{facts['acceptance']:.4f}",
        f"rows                         {ROWS}",
        "float16 (8, 10) in the first block",
    ):
        assert words in printed
    (store.folder("bank", "made") / MANIFEST_FILE).unlink()
    assert "is not finished" in tool("info", store.folder("bank", "made"), capsys=capsys)[1]
    assert "holds a dataset" in tool("info", dataset_of(store), capsys=capsys)[1]


def dataset_of(store: Store):
    """The data set's folder, with a job file."""
    folder = store.folder("dataset", "data")
    order = {"kind": "dataset", "name": "data", "key": folder.name, "spec": {}, "inputs": {}}
    write_json(folder / "spec.json", {**order, "code": {}, "run": {}})
    return folder


@pytest.mark.parametrize("form", ["blocks", "png"])
@pytest.mark.parametrize("reject", ["drop", "keep"])
def test_tokens_decode_to_the_bytes_that_were_never_stored(store, form, reject, capsys):
    spec = {**SAMPLES, "reject": reject}
    twin = spec if form == "blocks" else {**spec, "encoding": form}
    tokens = store.made("tokens", **spec, encoding="tokens")
    decoded, direct = store.bank("decoded", **twin), store.made("direct", **twin)
    status, printed = tool("decode", tokens.folder, "--to", decoded.folder, capsys=capsys)
    assert (status, f"holds the pixels of {tokens.key}" in printed) == (0, True)
    assert shards_of(decoded) == shards_of(direct)
    facts = [open_artefact(job.folder).manifest.facts for job in (decoded, direct)]
    assert facts[0] == facts[1]


def test_only_a_twin_is_decoded_into(store, capsys):
    tokens = store.made("tokens", **SAMPLES, encoding="tokens")
    for key, spec, words in (
        ("jpeg", {**SAMPLES, "encoding": "jpeg"}, "encoding is jpeg; the outputs are of exact"),
        ("seed", {**SAMPLES, "seed": 4}, f"is another bank than {tokens.key}, not its twin"),
    ):
        other = store.bank(key, **spec)
        status, printed = tool("decode", tokens.folder, "--to", other.folder, capsys=capsys)
        assert (status, words in printed) == (2, True)
        assert not shards_of(other)
    made = store.folder("bank", "made")
    status, printed = tool("decode", made, "--to", tokens.folder, capsys=capsys)
    assert (status, "has no tokens" in printed) == (2, True)


def test_groups_made_elsewhere_are_merged(store, tmp_path, capsys):
    whole = shards_of(store.bank("made", **SAMPLES))
    places = [Store(tmp_path / name) for name in ("one", "two", "three")]
    for place, parts in zip(places, ((0,), (1,), (2,)), strict=True):
        shutil.copytree(store.path, place.path)
        job = place.bank("made", **SAMPLES)
        (job.folder / MANIFEST_FILE).unlink()
        for number in set(range(SHARDS)) - set(parts):
            (job.folder / shard_name(number)).unlink()
    folders = [place.folder("bank", "made") for place in places]
    status, printed = tool("merge", folders[0], folders[1], capsys=capsys)
    assert (status, "1 shards are missing still: shard-00002.tar" in printed) == (0, True)
    assert not (folders[0] / MANIFEST_FILE).exists()
    status, printed = tool("merge", *folders, capsys=capsys)
    assert (status, "complete" in printed) == (0, True)
    assert shards_of(places[0].bank("made", **SAMPLES)) == whole
    assert len(read_bank(folders[0]).fields["t_clean"]) == ROWS


def test_another_bank_is_not_merged(store, capsys):
    other = store.made("other", **{**SAMPLES, "seed": 4})
    (store.folder("bank", "made") / shard_name(0)).unlink()
    status, printed = tool("merge", store.folder("bank", "made"), other.folder, capsys=capsys)
    assert (
        status,
        f"is bank {other.key}, not {key_of('made')}; merge folders of one key" in printed,
    ) == (2, True)
    assert not (store.folder("bank", "made") / shard_name(0)).exists()
