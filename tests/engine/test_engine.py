"""The loop: order of events, updates, history, stop rules, errors, and what it leaves alone."""

import json
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import nn
from toys import ROWS, Adversary, Autoencoder, loader

from deepclust_accel.data import ArraySource, Loader
from deepclust_accel.engine.engine import Engine
from deepclust_accel.engine.monitor import History
from deepclust_accel.engine.run import Run
from deepclust_accel.engine.runtime import Runtime
from deepclust_accel.engine.seeding import derive_seed, isolated
from deepclust_accel.engine.stage import Every, Group, Pass, Train
from deepclust_accel.errors import ArgumentError, PluginError, TrainingError


def fit(method, **options):
    engine = Engine(Runtime("cpu"), seed=0, **options)
    return engine.fit(method, loader())


def build(cls, seed=0):
    with isolated(seed):
        return cls()


def test_events_happen_in_order_in_eval_mode_without_gradient():
    method = build(Autoencoder)
    fit(method)
    centers = [e for e in method.events if e[0] == "center"]
    assert centers == [("center", 0, False, False)] + [("center", epoch, False, False) for epoch in range(4)]
    assert [e[1] for e in method.events if e[0] == "every"] == [0, 2, 4, 6, 8, 10, 12, 14]  # 4 epochs of 4 steps


def test_history_has_a_record_an_epoch_and_the_file_the_same(tmp_path):
    history = History(tmp_path / "history.jsonl")
    seconds = fit(build(Autoencoder), history=history)
    assert [(r["stage"], r["epoch"]) for r in history.records] == [("pretrain", e) for e in range(3)] + [
        ("joint", e) for e in range(4)
    ]
    assert all({"loss", "spread", "seconds"} <= set(r) for r in history.records)
    assert [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()] == history.records
    assert set(seconds) == {"pretrain", "center", "joint"}


def test_logged_loss_is_the_mean_over_steps():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(1, 1)

        def parts(self):
            return {"net": self.net}

        def plan(self):
            return [Train("t", self.step, {"main": Group(("net",), 0.0, "sgd")}, 1, batch_size=20)]

        def step(self, nets, batch, run):
            return nets.net.weight.sum() * 0 + float(run.step)

    history = History()
    fit(build(Constant), history=history)
    assert history.records[0]["loss"] == pytest.approx((0 + 1 + 2) / 3)


def test_generator_step_sees_the_networks_after_each_update_and_moves_only_its_group():
    method = build(Adversary)
    history = History()
    fit(method, history=history)
    before, middle, after = method.seen
    assert not torch.equal(before[0], middle[0]) and torch.equal(before[1], middle[1])
    assert torch.equal(middle[0], after[0]) and not torch.equal(middle[1], after[1])
    # critic gradient is the mean of its input; player gradient is -outer(critic weight after its update, mean of x)
    assert torch.allclose(after[1] - middle[1], 0.1 * middle[0].T @ ROWS.mean(0, keepdim=True), atol=1e-6)
    assert history.records[0]["extra"] == 2.0 and {"loss_critic", "loss_player"} <= set(history.records[0])


def test_adam_matches_a_plain_loop():
    """The engine against ten lines of torch on the same batches: identical weights."""

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 4)

        def parts(self):
            return {"net": self.net}

        def plan(self):
            group = Group(("net",), 0.05, options={"eps": 1e-4}, decay=lambda e: 0.5**e, clip_norm=0.7)
            return [
                Train(
                    "t",
                    lambda nets, batch, run: (nets.net(batch.x) - batch.x).square().sum(),
                    {"main": group},
                    3,
                    batch_size=16,
                )
            ]

    method, twin = build(Plain), build(Plain)
    fit(method)
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.05, eps=1e-4, fused=True)
    for epoch in range(3):
        optimizer.param_groups[0]["lr"] = 0.05 * 0.5**epoch
        for batch in loader().epoch(stage=0, epoch=epoch, batch_size=16):
            optimizer.zero_grad()
            (twin.net(batch.x) - batch.x).square().sum().backward()
            torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.7)
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(method.parameters(), twin.parameters(), strict=True))


def test_stop_rule_ends_the_stage():
    method = build(Autoencoder)
    stages = method.plan()
    stages[0] = Train(
        "pretrain", method.step, stages[0].groups, 100, 16, stop=lambda run: run.history[-1]["epoch"] == 1
    )
    method.plan = lambda: stages
    history = History()
    fit(method, history=history)
    assert [r["epoch"] for r in history.records if r["stage"] == "pretrain"] == [0, 1]


def test_progress_goes_from_zero_towards_one():
    seen = []

    class Watch(Autoencoder):
        def step(self, nets, batch, run):
            seen.append(run.progress)
            return super().step(nets, batch, run)

    fit(build(Watch))
    assert seen[:12] == pytest.approx([i / 12 for i in range(12)])
    assert seen[12:] == pytest.approx([i / 16 for i in range(16)])


def test_global_random_state_is_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    fit(build(Autoencoder))
    assert torch.equal(torch.rand(3), expected)


def test_same_seed_same_weights_whatever_the_global_state():
    def weights(seed):
        torch.manual_seed(seed)
        method = build(Autoencoder)
        fit(method)
        return torch.cat([p.flatten() for p in method.parameters()])

    assert torch.equal(weights(1), weights(2))


def test_a_loss_that_is_not_finite_stops_the_run_and_names_itself():
    class Sick(Autoencoder):
        def step(self, nets, batch, run):
            mine = 11 in batch.index
            run.log(shift=float("inf") if mine and run.epoch == 1 else 0.0)
            return super().step(nets, batch, run) * (float("nan") if mine and run.epoch == 1 else 1.0)

    with pytest.raises(TrainingError) as stopped:
        fit(build(Sick))
    batches = [b.index.tolist() for b in loader().epoch(stage=0, epoch=1, batch_size=16)]
    step, rows = next((i, rows) for i, rows in enumerate(batches) if 11 in rows)
    shown = ", ".join(map(str, rows[:5]))
    said = (
        f"stage 'pretrain', epoch 2 of 3, step {step + 1} of {len(batches)} with rows {shown}, … ({len(rows)} in all): "
    )
    assert str(stopped.value).startswith(said + "expected finite losses, got shift = inf, loss = nan;")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: setattr(m, "loose", nn.Parameter(torch.zeros(1))), "loose"),
        (lambda m: setattr(m, "plan", lambda: [Pass("a", print), Pass("a", print)]), "different stage names"),
        (lambda m: setattr(m, "plan", lambda: [Train("a", print, {"g": Group(("nope",))}, 1)]), "nope"),
        (
            lambda m: setattr(
                m, "plan", lambda: [Train("a", print, {"g": Group(("encoder",)), "h": Group(("encoder",))}, 1)]
            ),
            "one group",
        ),
        (lambda m: setattr(m, "plan", lambda: [Train("a", print, {}, 1, every=Every(0, print))]), "every.steps"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_before_training(change, message):
    method = build(Autoencoder)
    change(method)
    with pytest.raises(PluginError, match=message):
        fit(method)


@pytest.mark.parametrize(
    ("loss", "got"),
    [
        (lambda loss: loss.expand(16), r"a tensor of shape \(16,\)"),
        (lambda loss: loss.detach(), r"a tensor of shape \(\) without gradient"),
        (lambda loss: loss.item(), "float"),
        (lambda loss: None, "NoneType"),
    ],
)
def test_what_is_no_loss_is_named(loss, got):
    class Odd(Autoencoder):
        def step(self, nets, batch, run):
            return loss(super().step(nets, batch, run))

    with pytest.raises(PluginError, match=f"stage 'pretrain': expected its step to return the mean loss .* got {got}"):
        fit(build(Odd))


def test_what_cannot_be_logged_or_grouped_is_named():
    class Loud(Autoencoder):
        def step(self, nets, batch, run):
            run.log(rows=batch.x)
            return super().step(nets, batch, run)

    with pytest.raises(PluginError, match=r"run.log: rows: expected one number, got a tensor of shape \(16, "):
        fit(build(Loud))
    with pytest.raises(PluginError, match=r"Group: expected a tuple of names of parts, got 'encoder'"):
        Group("encoder")


@pytest.mark.parametrize("device", ["cuda:99", "tpu?", "meta", ""])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(ArgumentError, match="device: expected"):
        Runtime(device)


def test_bfloat16_trains_and_is_silent(capfd, caplog):
    method, history = build(Autoencoder), History()
    Engine(Runtime("cpu", "bf16-mixed"), seed=0, history=history).fit(method, loader())
    plain = History()
    fit(build(Autoencoder), history=plain)
    losses = [[r["loss"] for r in records] for records in (history.records, plain.records)]
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.05)
    assert all(p.dtype == torch.float32 for p in method.parameters())
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_a_refresh_runs_in_the_precision_of_training_and_a_pass_in_float32():
    seen = {}

    class Looking(Autoencoder):
        def look(self, name, run):
            inside = []
            codes = run.collect(lambda x: inside.append(self.encoder(x).dtype) or self.encoder(x))
            seen[name] = set(inside), codes.dtype

        def plan(self):
            before, every, after = (partial(self.look, name) for name in ("before", "every", "after"))
            group = {"main": Group(("encoder", "decoder"))}
            joint = Train("joint", self.step, group, 1, batch_size=16, before_epoch=before, every=Every(1, every))
            return [joint, Pass("center", after)]

    Engine(Runtime("cpu", "bf16-mixed"), seed=0).fit(build(Looking), loader())
    half, full = ({torch.bfloat16}, torch.float32), ({torch.float32}, torch.float32)
    assert seen == {"before": half, "every": half, "after": full}
    fit(build(Looking))
    assert seen == dict.fromkeys(seen, full)


def test_collecting_fills_one_tensor_and_row_numbers_read_nothing(monkeypatch):
    source = ArraySource(ROWS.repeat(100, 1))  # several batches
    run = Run(Runtime("cpu"), Loader(source, seed=0), 0)
    monkeypatch.setattr("torch.cat", None)
    assert torch.equal(run.collect(lambda x: 2 * x[:, :3]), 2 * source.array[:, :3])
    source.take = None
    assert torch.equal(run.row_numbers(), torch.arange(5000))


def test_isolation_covers_every_cuda_device_once_cuda_is_in_use(monkeypatch):
    saved = []
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr("torch.random.fork_rng", lambda devices: saved.extend(devices) or nullcontext())
    monkeypatch.setattr("torch.manual_seed", lambda seed: None)
    with isolated(0):
        pass
    assert saved == [0, 1, 2]


def test_unknown_precision_and_optimizer_are_refused():
    with pytest.raises(ArgumentError, match="precision"):
        Runtime("cpu", "64-true")
    with pytest.raises(ArgumentError, match="optimizer"):
        Runtime("cpu").optimizer(Group(("encoder",), optimizer="adaam"), build(Autoencoder).parts())


def test_derived_seeds_differ_along_every_axis():
    seeds = {
        derive_seed(seed, "rank", stage, epoch, rank)
        for seed in range(5)
        for stage in range(5)
        for epoch in range(5)
        for rank in range(5)
    }
    assert len(seeds) == 5**4
