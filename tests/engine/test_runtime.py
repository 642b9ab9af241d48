"""Where a process runs: what it does on a machine with GPUs, told by stand-ins for them."""

import pytest
import torch

from deepclust_accel.engine import runtime


@pytest.mark.parametrize(("wanted", "number"), [("cuda", 1), ("auto", 1), ("cuda:0", 0)])
def test_each_process_takes_the_gpu_of_its_local_rank_and_nccl(monkeypatch, wanted, number):
    seen = {}
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: seen.update(device=device))
    monkeypatch.setattr(runtime.dist, "rendezvous", lambda url: iter([(torch.distributed.HashStore(), 1, 2)]))
    monkeypatch.setattr(
        runtime.dist, "init_process_group", lambda backend, **rest: seen.update(backend=backend, **rest)
    )
    monkeypatch.setattr(runtime.atexit, "register", lambda function: None)
    assert runtime._join(runtime.device_of(wanted)) == torch.device("cuda", number) == seen["device"]
    assert (seen["backend"], seen["rank"], seen["world_size"]) == ("nccl", 1, 2)
