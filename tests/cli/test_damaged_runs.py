"""Whatever has become of a run's files, a command does its work or says in one line what is wrong; nothing is executed."""

import pickle
import random
import shutil

import pytest
from command_line import SMALL, dcaccel, refused

FILES = ["run.json", "model.safetensors", "labels.npy", "probabilities.npy", "history.jsonl"]


def commands(run, rows):
    fit = ["fit", "dvae", rows / "x.npz", "-k", 2, "--out", run, "--scaling", "standard", "--quiet", *SMALL]
    return {
        "predict": ["predict", run, rows / "x.npy", "--out", run.parent / "labels.npy"],
        "report": ["report", run],
        "resume": [*fit, "--resume"],
    }


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "run")


@pytest.mark.parametrize("name", FILES)
def test_a_pickle_in_place_of_a_file_is_never_opened(copy, rows, name):
    opened = copy.parent / "opened"

    class Trap:
        def __reduce__(self):
            return opened.touch, ()

    (copy / name).write_bytes(pickle.dumps(Trap()))
    if name.endswith(".npy"):  # as numpy would save an array of objects
        header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
        (copy / name).write_bytes(b"\x93NUMPY\x01\x00\x76\x00" + header + pickle.dumps([Trap()]))
    users = {"model.safetensors": ["predict", "report", "resume"], "history.jsonl": ["report"]}
    for command in users.get(name, ["report", "resume"]):
        assert "fit again" in refused(*commands(copy, rows)[command])
    assert not opened.exists()
    pickle.loads(pickle.dumps(Trap()))
    assert opened.exists()  # it would have shown


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_or_a_lost_end(copy, rows, name, seed):
    chance, path = random.Random(f"{name} {seed}"), copy / name
    data = bytearray(path.read_bytes())
    if seed % 2:
        data = data[: chance.randrange(len(data))]
    else:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    others = {p: p.read_bytes() for p in copy.iterdir() if p.name not in (name, "report.html")}
    for command in ("predict", "report"):
        done = dcaccel(*commands(copy, rows)[command])
        assert done.returncode == 0 or (done.returncode == 2 and len(done.stderr.splitlines()) == 1), done
    assert {p: p.read_bytes() for p in others} == others
    if name == "model.safetensors":
        assert "damaged file" in done.stderr
