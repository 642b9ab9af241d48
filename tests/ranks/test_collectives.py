"""What ranks exchange, with two processes over gloo."""

import torch
import torch.distributed as dist
import torch.multiprocessing

from deepclust_accel.engine.collectives import gather_rows, sum_ranks

ROWS = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


def loss(mine, everyone):
    return (mine @ everyone.T).sin().sum()


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    rows = ROWS.chunk(2)[rank].clone().requires_grad_()
    everyone = gather_rows(rows)
    value = loss(rows, everyone)
    value.backward()
    torch.save((everyone.detach(), rows.grad, sum_ranks(value)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_gathered_rows_carry_the_gradient_of_one_process(tmp_path):
    torch.multiprocessing.spawn(work, (tmp_path,), nprocs=2)
    rows = ROWS.clone().requires_grad_()
    value = loss(rows, gather_rows(rows))
    value.backward()
    for rank in range(2):
        everyone, gradient, total = torch.load(tmp_path / f"{rank}.pt")
        assert torch.equal(everyone, ROWS)
        assert torch.allclose(gradient, rows.grad.chunk(2)[rank], atol=1e-6) and torch.allclose(total, value, atol=1e-5)
