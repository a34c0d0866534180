"""`status`, `verify` and `prune` on the made tiny graph, damaged in every way."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.store import checkpoint, lease
from pipeline.store.artefact import JOB_FILE, MANIFEST_FILE, compute_manifest_sum
from tests.helpers.copies import Copy, flip, rewrite
from tests.helpers.graph import Folder, tiny

CONFIG = ("--configfile", "experiment.yaml")
HELD = {"host": "elsewhere", "pid": 1, "boot": "b", "started": "1"}


def test_status_of_what_is_made(copy):
    status, printed = copy.run("status", *CONFIG)
    assert status == 0
    assert printed.splitlines()[-1] == "20 artefacts: 20 made"
    assert "other code" not in printed
    assert "made before" not in printed


def test_status_of_every_kind(copy):
    (copy.place("bank/dad") / MANIFEST_FILE).unlink()
    student = copy.place("student/rslad-0")
    (student / MANIFEST_FILE).unlink()
    checkpoint.save(student / "state/checkpoint.pt", {"counters": [0, 3]})
    evaluation = copy.place("evaluation/kd-0.main")
    (evaluation / MANIFEST_FILE).unlink()
    (evaluation / "lease.lock").write_text(json.dumps(HELD))
    cut = copy.place("student/adaad-0")
    (cut / MANIFEST_FILE).unlink()
    (cut / "state").mkdir()
    (cut / "state/checkpoint.pt").write_bytes(b"cut")
    (copy.place("teacher/natural") / MANIFEST_FILE).write_text("{")
    rewrite(copy.place("student/kd-0"), sealed=True, fingerprint="0" * 16)
    raw = tiny()
    raw["students"]["new"] = {**raw["students"]["natural"], "epochs": 2}
    copy.write(raw)
    status, printed = copy.run("status", *CONFIG)
    lines = {" ".join(line.split()[:2]): line for line in printed.splitlines()}
    assert status == 0
    assert "unfinished  2 of 2 shards" in lines["bank dad"]
    assert "unfinished  epoch 1 of 1, step 3" in lines["student rslad-0"]
    assert "running     on elsewhere 1" in lines["evaluation kd-0.main"]
    assert "is truncated, altered, or not a Retort checkpoint" in lines["student adaad-0"]
    assert "broken      " in lines["teacher natural"]
    assert lines["student new-0"].endswith("missing")
    assert "  student kd-0" in printed
    assert "the same revisions, but edited since" in printed
    assert printed.splitlines()[-1] == (
        "22 artefacts: 14 made, 1 broken, 1 running, 3 unfinished, 3 missing"
    )


def put_older(copy: Copy, label: str, key: str, **code: int) -> None:
    """Another artefact of a kind, whose manifest is as the version before the rooms wrote it."""
    made = copy.place(label)
    place = made.with_name(key)
    place.mkdir()
    data = json.loads((made / MANIFEST_FILE).read_text()) | {"key": key, "code": code}
    data["modules"] = sorted(code)
    del data["sum"]
    (place / MANIFEST_FILE).write_text(json.dumps(data | {"sum": compute_manifest_sum(data)}))


def test_status_of_an_older_store_says_what_will_be_made_again(copy):
    put_older(copy, "bank/dad", "0" * 12, **{"pipeline.bank": 1})
    put_older(copy, "teacher/natural", "1" * 12, **{"pipeline.loop": 2, "pipeline.objectives": 1})
    put_older(copy, "student/kd-0", "2" * 12, **{"pipeline.training.loop": 1})
    cut = copy.place("bank/dad").with_name("3" * 12)
    cut.mkdir()
    (cut / MANIFEST_FILE).write_text("{")
    status, printed = copy.run("status", *CONFIG)
    assert status == 0
    *_, line, last = printed.splitlines()
    assert line == (
        "2 artefacts were made before 2026-11-28, when modules moved and every key changed once: "
        "the store's banks and teachers will be made again. Older ones are kept until "
        "'retort prune --configfile FILE --delete'; without --delete it lists them"
    )
    assert last == "20 artefacts: 20 made"
    assert copy.run("prune", *CONFIG)[1].count("not referred to") == 4
    shutil.rmtree(cut.with_name("0" * 12))
    assert "1 artefact was made before 2026-11-28" in copy.run("status", *CONFIG)[1]


def truncated(copy: Copy) -> tuple[str, str, str]:
    path = copy.place("bank/dad") / "shard-00001.tar"
    path.write_bytes(path.read_bytes()[:512])
    return "bank/dad", "shard-00001.tar", "truncated, 512 of"


def flipped(copy: Copy) -> tuple[str, str, str]:
    flip(copy.place("student/kd-0") / "model.safetensors")
    return "student/kd-0", "model.safetensors", "altered"


def lost(copy: Copy) -> tuple[str, str, str]:
    (copy.place("evaluation/rslad-0.main") / "outcomes.parquet").unlink()
    return "evaluation/rslad-0.main", "outcomes.parquet", "missing"


def edited_facts(copy: Copy) -> tuple[str, str, str]:
    rewrite(copy.place("teacher/robust"), sealed=False, facts={"clean_accuracy": 0.99})
    return "teacher/robust", MANIFEST_FILE, "was edited, its own sum differs"


def of_another(copy: Copy) -> tuple[str, str, str]:
    rewrite(copy.place("teacher/robust"), sealed=True, spec={"epochs": 100})
    return "teacher/robust", MANIFEST_FILE, "differs from the job file"


def nonsense(copy: Copy) -> tuple[str, str, str]:
    (copy.place("discretizer/vq") / MANIFEST_FILE).write_text('{"kind": "bank"}')
    return "discretizer/vq", MANIFEST_FILE, "is not a manifest"


def edited_order(copy: Copy) -> tuple[str, str, str]:
    path = copy.place("generator/derd") / JOB_FILE
    order = json.loads(path.read_text())
    order["spec"]["latent"] = 17
    path.write_text(json.dumps(order))
    return "generator/derd", JOB_FILE, "is not the job file of this key"


DAMAGES = (truncated, flipped, lost, edited_facts, of_another, nonsense, edited_order)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__)
def test_verify_names_what_is_broken_and_mends_that_alone(copy, damage: Callable):
    label, file, what = damage(copy)
    place, before = copy.place(label), copy.refs()
    status, printed = copy.run("verify", *CONFIG)
    (first, last) = printed.splitlines()
    assert status == 2
    assert first.startswith(f"{place.relative_to(copy.path) / file}: ")
    assert what in first
    assert last == "error: 1 of 20 artefacts are broken; add --mend to have them made again"
    assert copy.refs() == before
    status, printed = copy.run("verify", "--mend", *CONFIG)
    target = f"store/{place.parent.name}/{place.name}/{MANIFEST_FILE}"
    assert status == 0
    assert printed.endswith(f"\nnow: retort run {target} --configfile experiment.yaml\n")
    assert before - copy.refs() == {f"{place.parent.name}/{place.name}"}
    assert Folder(copy.path).planned(target) == {label}
    assert copy.run("verify", *CONFIG)[1].endswith("19 artefacts are intact\n")


def test_mending_names_no_target_that_the_configuration_does_not_know(copy):
    """Snakemake would refuse the whole command."""
    known, other = copy.place("student/kd-0"), copy.place("evaluation/rslad-0.main")
    for place, file in ((known, "model.safetensors"), (other, "outcomes.parquet")):
        (place / file).unlink()
    raw = tiny()
    del raw["suites"], raw["report"]
    copy.write(raw)
    printed = copy.run("verify", "--all", "--mend", *CONFIG)[1].splitlines()
    assert printed[-3:] == [
        "mended: what needs them makes them again",
        f"now: retort run store/student/{known.name}/{MANIFEST_FILE} --configfile experiment.yaml",
        "1 are of other configurations; run these",
    ]


def test_a_mended_bank_is_as_it_was(copy):
    bank = copy.place("bank/dad")
    before = json.loads((bank / MANIFEST_FILE).read_text())["files"]
    flip(bank / "shard-00000.tar")
    other = (bank / "shard-00001.tar").stat().st_mtime_ns
    assert copy.run("verify", "--mend", *CONFIG)[0] == 0
    assert copy.run("build_bank", str(bank))[0] == 0
    assert json.loads((bank / MANIFEST_FILE).read_text())["files"] == before
    assert (bank / "shard-00001.tar").stat().st_mtime_ns == other


def without_adaad() -> dict:
    """The tiny experiment with a student less."""
    raw = tiny()
    del raw["students"]["adaad"]
    return raw


def test_prune_lists_first_and_keeps_what_any_configuration_names(copy):
    assert copy.run("prune", *CONFIG) == (0, "nothing to prune\n")
    before, fewer = copy.refs(), copy.write(without_adaad(), "fewer.yaml")
    doomed = ("student/adaad-0", "evaluation/adaad-0.main", "report/report")
    gone = {str(copy.place(d).relative_to(copy.path / "store")) for d in doomed}
    assert copy.run("prune", *CONFIG, fewer) == (0, "nothing to prune\n")
    status, printed = copy.run("prune", "--configfile", fewer)
    assert status == 0
    assert "nothing was deleted: add --delete" in printed
    assert all(f"store/{ref}" in printed for ref in gone)
    assert "not referred to adaad-0" in printed
    assert copy.refs() == before
    assert copy.run("prune", "--configfile", fewer, "--delete")[0] == 0
    assert before - copy.refs() == gone
    assert not (copy.path / "store/by-name/student/adaad-0").is_symlink()
    assert copy.run("prune", "--configfile", fewer) == (0, "nothing to prune\n")
    assert not list((copy.path / "store").glob(".*"))


def test_prune_keeps_what_runs_and_what_that_is_made_from(copy):
    student = copy.place("student/adaad-0")
    (student / "lease.lock").write_text(json.dumps(HELD))
    raw = {k: v for k, v in tiny().items() if k in ("store", "seed", "run", "recipes", "datasets")}
    copy.write(raw)
    assert copy.run("prune", "--delete", *CONFIG)[0] == 0
    left = {"student/adaad-0", "teacher/robust", "dataset/tiny"}
    assert copy.refs() == {f"{copy.place(x).parent.name}/{copy.place(x).name}" for x in left}


def aged(path: Path) -> Path:
    """Make a file look as if nobody had touched it for long."""
    path.write_text("half")
    os.utime(path, (0, 0))
    return path


def test_prune_takes_what_dead_jobs_left(copy):
    student, old = copy.place("student/kd-0"), []
    old.append(aged(student / ".model.safetensors.host.1.part"))
    old.append(aged(student / ".lease.lock.host.1"))
    (student / "state").mkdir()
    old.append(student / "state")
    dead = student / "shard-00000.lock"
    dead.write_text(json.dumps({**lease._describe_this_process(), "started": "1"}))
    old.append(dead)
    (copy.path / "store/.import-host-1").mkdir()
    os.utime(copy.path / "store/.import-host-1", (0, 0))
    old.append(copy.path / "store/.import-host-1")
    fresh = student / ".history.json.host.2.part"
    fresh.touch()
    status, printed = copy.run("prune", *CONFIG)
    assert status == 0
    assert len(printed.splitlines()) == len(old) + 2
    before = copy.refs()
    assert copy.run("prune", "--delete", *CONFIG)[0] == 0
    assert not any(path.exists() for path in old)
    assert fresh.exists()
    assert copy.refs() == before


def test_prune_refuses_two_stores_and_an_order_it_cannot_read(copy):
    other = copy.write({**tiny(), "store": "elsewhere"}, "other.yaml")
    assert "error: store: the configurations have 2" in copy.run("prune", *CONFIG, other)[1]
    (copy.place("student/dad-0") / JOB_FILE).write_text("{")
    status, printed = copy.run("prune", "--delete", *CONFIG)
    assert status == 2
    assert "spec.json: is not readable JSON" in printed
    assert (copy.place("bank/dad") / MANIFEST_FILE).exists()
