"""Nothing from elsewhere runs, nothing leads out of the store, and no name reaches a shell."""

import ast
import io
import tarfile
from pathlib import Path

import pytest

from pipeline.banks.shards import read_shard
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from tests.helpers.fuzz import a_shard
from tests.helpers.graph import ROOT, Folder, tiny

FILES = sorted((ROOT / "pipeline").rglob("*.py"))
INERT = (
    ROOT / "pipeline/models/pretrained/safe_unpickle.py"
)  # unpickles, but every foreign name becomes a placeholder
ALWAYS_WRONG = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "yaml.load", "yaml.unsafe_load"),
    *("yaml.full_load", "eval", "exec", "os.system", "os.popen", "dill.load", "joblib.load"),
    *("tar.extract", "zipfile.extractall", "torch.hub.load", "marshal.loads"),
}
DEMANDED = {  # call -> the argument it must have
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "np.save": ("allow_pickle", False),
    "tar.extractall": ("filter", "data"),
}


def calls(path: Path) -> dict[ast.Call, str]:
    """Every call in a file, by what is called."""
    tree = ast.parse(path.read_text())
    return {node: ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_from_outside_is_run(path):
    for call, name in calls(path).items():
        where = f"{path.name}:{call.lineno}: {name}"
        assert name not in ALWAYS_WRONG, where
        given = {k.arg: getattr(k.value, "value", None) for k in call.keywords}
        if name in DEMANDED:
            argument, value = DEMANDED[name]
            assert given.get(argument) == value, f"{where} without {argument}={value}"
        assert not given.get("shell"), f"{where} through a shell"
    bases = {
        ast.unparse(b)
        for n in ast.walk(ast.parse(path.read_text()))
        if isinstance(n, ast.ClassDef)
        for b in n.bases
    }
    assert path == INERT or "pickle.Unpickler" not in bases, path.name


def test_the_check_itself_sees_a_careless_call(tmp_path):
    path = tmp_path / "careless.py"
    for text in ("torch.load(p)", "pickle.load(f)", "np.load(p)", "subprocess.run(c, shell=True)"):
        path.write_text(text)
        with pytest.raises(AssertionError):
            test_nothing_from_outside_is_run(path)


NAMES = {
    "../x": "holds a slash",
    "/etc/x": "holds a slash",
    "a/b": "holds a slash",
    "..": "starts with a dot",
    ".hidden": "starts with a dot",
    "": "is empty",
    " x": "is empty or has spaces around it",
    "a\nb": "cannot be printed",
    "a\0b": "cannot be printed",
    "a\x1b[2Jb": "cannot be printed",
    "a\ud800": "cannot be printed",
    "é" * 60: "has 120 bytes, 100 at most",
}
SECTIONS = ("datasets", "teachers", "discretizers", "banks", "generators", "students", "suites")


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_that_is_none_is_refused_with_one_line(section, name):
    raw = tiny()
    raw[section][name] = next(iter(raw[section].values()))
    with pytest.raises(RetortError, match=NAMES[name]) as caught:
        make_plan_from_dict(raw)
    assert str(caught.value).startswith(f"{section}: the name ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_an_evaluation_of_long_names_still_has_a_name():
    raw = tiny()
    raw["students"] = {"s" * 100: raw["students"]["natural"]}
    raw["suites"] = {"t" * 100: raw["suites"]["main"]}
    plan = make_plan_from_dict(raw)
    longest = max(len(name) for _, name in plan.refs_by_name)
    assert longest == 203
    raw["students"]["s" * 100] = {**raw["students"]["s" * 100], "seeds": [10**30]}
    with pytest.raises(RetortError, match="220 at most; shorten its parts"):
        make_plan_from_dict(raw)


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ("sto{re}", "braces and unprintable characters"),
        ("a\nb", "braces and unprintable characters"),
        ("a\0b", "braces and unprintable characters"),
        ("x" * 300, "File name too long"),
        ("/proc/version/store", "/proc/version is not a folder"),
    ],
)
def test_a_store_that_is_none_is_refused_with_one_line(store, words):
    with pytest.raises(RetortError, match=words) as caught:
        make_plan_from_dict({**tiny(), "store": store})
    assert str(caught.value).isprintable()


HOSTILE = """it's a "store"; touch pwned & $(touch pwned) `touch pwned` | x*?[a] %s"""


def test_a_hostile_path_and_hostile_names_make_the_data_set(tmp_path):
    """A real run: the words are a folder's and an entry's name, and no shell sees more in them."""
    folder, raw = Folder(tmp_path), tiny()
    kept = {k: raw[k] for k in ("seed", "run", "recipes")}
    name = """d's "set"; touch pwned & $(touch pwned) {x} %s"""
    folder.write({**kept, "store": HOSTILE, "datasets": {name: raw["datasets"]["tiny"]}})
    printed = folder.make()
    assert not list(tmp_path.rglob("pwned*"))
    (manifest,) = (tmp_path / HOSTILE / "dataset").glob("*/manifest.json")
    link = tmp_path / HOSTILE / "by-name/dataset" / name
    assert link.resolve() == manifest.parent
    assert name in printed
    assert folder.planned() == set()


def with_member(name: str, data: bytes, **about: object) -> bytes:
    """A whole shard with one member more."""
    buffer = io.BytesIO(a_shard())
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        for field, value in about.items():
            setattr(member, field, value)
        tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


OBJECT = b"\x93NUMPY\x01\x00\x36\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("000001.pyd", b"cos\nsystem\n(S'touch pwned'\ntR."),
        ("000001.pth", b"PK"),
        ("000001.pickle", b"cos\nsystem\n(S'touch pwned'\ntR."),
        ("000001.json", b"{}"),
        ("../evil.npy", b"x"),
        ("000001.row.npy", OBJECT),
        ("000001.row.npy", OBJECT.replace(b"|O", b"x)")),
    ],
)
def test_a_shard_with_a_foreign_member_is_refused(name, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "shard-00000.tar"
    path.write_bytes(a_shard())
    assert len(list(read_shard(path))) == 1
    path.write_bytes(with_member(name, data))
    with pytest.raises(RetortError, match=r"shard-00000\.tar: .*delete it and its bank's manifest"):
        list(read_shard(path))
    assert [p.name for p in tmp_path.iterdir()] == ["shard-00000.tar"]


def test_a_link_in_a_shard_is_refused(tmp_path):
    path = tmp_path / "shard-00000.tar"
    link = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}
    path.write_bytes(with_member("000001.row.npy", b"", **link))
    with pytest.raises(RetortError, match="altered or no bank's shard"):
        list(read_shard(path))
