"""The only training loop: runs the stages of a plan, updates networks, keeps history, snapshots at epoch boundaries."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext

import torch
from torch import Tensor, nn

from deepclust_accel.data.loader import Loader
from deepclust_accel.engine import collectives
from deepclust_accel.engine.checkpoint import Checkpoint, Snapshot, pack, unpack
from deepclust_accel.engine.interrupts import Interrupts
from deepclust_accel.engine.meter import Meter
from deepclust_accel.engine.monitor import History, Watcher
from deepclust_accel.engine.pretraining import Pretrained, Taken, put, result_of
from deepclust_accel.engine.run import Run
from deepclust_accel.engine.runtime import Runtime
from deepclust_accel.engine.seeding import derive_seed, isolated
from deepclust_accel.engine.stage import Every, Pass, Stage, Train, Update
from deepclust_accel.errors import PluginError, ResumeError, TrainingError, nearest

__all__ = ["Engine"]


class Engine:
    """Fits methods.

    Args:
        runtime: device, precision and processes.
        seed: the run's seed; with equal inputs and thread count, equal seeds give bit-equal results.
        checkpoint: where snapshots go; None for none.
        save_seconds: a snapshot is written at an epoch boundary when this much time has passed since the last one, and at
            every end of a stage. With snapshots, the first Ctrl-C or SIGTERM waits for the end of the epoch and takes one.
        history: receives a record an epoch.
        watcher: told about progress.
        examine: looks at the method and its run before the first stage and after each, without gradient; what it returns
            is kept in ``health``, with the name of the stage.
        pretrained: where stages with a recipe find what they would make, and put it; ``reused`` holds what was found.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        seed: int,
        checkpoint: Checkpoint | None = None,
        save_seconds: float = 30.0,
        history: History | None = None,
        watcher: Watcher | None = None,
        examine: Callable[[nn.Module, Run], dict] | None = None,
        pretrained: Pretrained | None = None,
    ):
        self._runtime, self._seed, self._checkpoint = runtime, seed, checkpoint
        self._save_seconds, self._saved_at = save_seconds, time.monotonic()
        self._history, self._watcher = history or History(), watcher or Watcher()
        self._examine, self.health = examine, []
        self._pretrained = pretrained
        self.reused: dict[str, Taken] = {}

    def fit(self, method: nn.Module, loader: Loader, *, resume: bool = False) -> dict[str, float]:
        """Run all stages of ``method.plan()`` in place and return the seconds each took.

        Args:
            resume: continue from the snapshot, when there is one; with as many processes as before the result is bit-equal
                to that of an uninterrupted run.

        Raises:
            PluginError: the plan and the parts do not fit each other, or a step returns no loss.
            ResumeError: no snapshot is whole, or it belongs to other settings, or processes see different ones.
            TrainingError: a logged term is no longer finite; names stage, epoch, step, term and rows. Or a weight is not at
                the end of an epoch. The last snapshot is left.
        """
        stages, parts = list(method.plan()), method.parts()
        check_plan(method, stages, parts)
        method.to(self._runtime.device)
        start = self._start(resume)
        self._history.restart(start.history)
        self._seconds, self.health, self._saved_at = dict(start.seconds), list(start.health), time.monotonic()
        self._method, self._parts, self._run = method, parts, Run(self._runtime, loader, self._seed)
        self._run.history = self._history.records
        self._interrupts = Interrupts(self._checkpoint is not None, self._runtime.world_size)
        try:
            with isolated(derive_seed(self._seed, "engine")), self._interrupts:
                self._nets = self._runtime.networks(parts)
                if start.tensors:
                    unpack(start, method, {})
                else:
                    self._look("start")
                for index in range(start.stage, len(stages)):
                    self._stage(stages, index, start if index == start.stage else Snapshot())
        finally:
            self._watcher.close()
        method.eval()
        return self._seconds

    def _start(self, resume: bool) -> Snapshot:
        """The snapshot to go on from, the same on all ranks, or an empty one. No rank writes before all have read."""
        there = resume and self._checkpoint is not None and self._checkpoint.exists()
        start = self._checkpoint.load() if there else Snapshot()
        place = torch.tensor([start.stage, start.epoch], device=self._runtime.device)
        if not torch.equal(collectives.min_ranks(place), -collectives.min_ranks(-place)):
            raise ResumeError(
                f"{self._checkpoint.folder}: expected the same snapshot in all processes, got others; put the folder "
                "where every machine sees it"
            )
        return start

    def _stage(self, stages: Sequence[Stage], index: int, start: Snapshot) -> None:
        stage, run, begin = stages[index], self._run, time.monotonic()
        before = self._seconds.get(stage.name, 0.0)
        run.epoch, run.epochs, run.steps_per_epoch = start.epoch, getattr(stage, "epochs", 0), self._steps(stage)
        run.step = run.epoch * run.steps_per_epoch
        self._watcher.begin_stage(index + 1, len(stages), stage.name, run.epochs, run.steps_per_epoch, start.epoch)
        if isinstance(stage, Pass):
            run.reseed(index, 0)
            self._without_gradient(stage.run)
            self._take_log(stage, index)
        else:
            self._train(stage, index, start, begin)
        if stage.name not in self.reused:
            self._seconds[stage.name] = before + time.monotonic() - begin
        self._watcher.end_stage(self._seconds[stage.name], self._look(stage.name))
        self._save(Snapshot(index + 1), {}, force=True)
        self._interrupts.patient = False  # a pass can only be repeated whole, so there is nothing to wait for
        self._interrupts.check(self._asked())

    def _train(self, stage: Train, index: int, start: Snapshot, begin: float) -> None:
        fresh = self._pretrained is not None and stage.recipe is not None and not start.epoch
        key = self._pretrained.key(stage, index, self._parts) if fresh else ""
        if fresh and self._reuse(key, stage):
            return
        optimizers = {name: self._runtime.optimizer(group, self._parts) for name, group in stage.groups.items()}
        if start.tensors:
            unpack(start, self._method, optimizers)
        before, busy = self._seconds.get(stage.name, 0.0), time.process_time()
        for epoch in range(start.epoch, stage.epochs):
            self._interrupts.patient = True
            self._epoch(stage, index, epoch, optimizers)
            self._seconds[stage.name] = before + time.monotonic() - begin
            if stage.stop is not None and stage.stop(self._run):
                break
            if epoch + 1 < stage.epochs:
                asked = self._asked()
                self._save(Snapshot(index, epoch + 1), optimizers, force=bool(asked))
                self._interrupts.check(asked)
        if fresh and self._runtime.rank == 0:
            history = [record for record in self._history.records if record["stage"] == stage.name]
            spent = time.monotonic() - begin, time.process_time() - busy
            self._pretrained.keep(key, result_of(stage, self._parts, history, *spent))

    def _asked(self) -> int:
        """The signal that asks to stop, the same on all ranks: one that stopped alone would leave the others waiting."""
        got = self._interrupts.got
        return got if self._runtime.world_size == 1 else -int(self._least(-got))

    def _least(self, number: int) -> Tensor:
        return collectives.min_ranks(torch.tensor(number, device=self._runtime.device))

    def _reuse(self, key: str, stage: Train) -> bool:
        """Take what the stage would make of its parts, on all ranks or on none."""
        taken = self._pretrained.take(key, stage, self._parts)
        if not int(self._least(taken is not None)):
            return False
        put(taken, stage, self._parts)
        for record in taken.history:
            self._history.append(record)
        self._seconds[stage.name], self.reused[stage.name] = taken.seconds, taken
        self._watcher.reused(taken.origin)
        return True

    def _epoch(self, stage: Train, index: int, epoch: int, optimizers: Mapping[str, torch.optim.Optimizer]) -> None:
        run, begin, meter = self._run, time.monotonic(), Meter()
        run.epoch = epoch
        run.reseed(index, epoch)
        for key, group in stage.groups.items():
            factor = group.decay(epoch) if group.decay else 1.0
            for settings in optimizers[key].param_groups:
                settings["lr"] = group.learning_rate * factor
        if stage.before_epoch is not None:
            self._refresh(stage.before_epoch)
        self._method.train()
        size = stage.batch_rows(run.rows, run.world_size)
        with closing(run.epoch_batches(size, index, stage.needs_equal_shards)) as batches:
            for batch in meter.batches(batches):
                if stage.every is not None and run.step % stage.every.steps == 0:
                    self._refresh(stage.every.do)
                    self._method.train()
                run.begin_step(batch)
                for update in _updates(stage.step(self._nets, batch, run)):
                    self._apply(update, stage, optimizers, batch.share)
                run.step += 1
                self._watcher.step()
        means = self._take_log(stage, index)
        self._check_weights(stage)
        seconds, machine = round(time.monotonic() - begin, 4), meter.read(run.device)
        record = {"stage": stage.name, "epoch": epoch, "seconds": seconds, "machine": machine, **means}
        self._history.append(record)
        self._watcher.end_epoch(record)

    def _apply(
        self, update: Update, stage: Train, optimizers: Mapping[str, torch.optim.Optimizer], share: float
    ) -> None:
        group, optimizer = stage.groups[update.group], optimizers[update.group]
        # All, since an adversarial loss leaves gradients in parts that it must not move; by hand, since
        # Optimizer.zero_grad opens a profiler range each time, which is a third of a small step.
        for each in optimizers.values():
            for parameter in _parameters(each):
                parameter.grad = None
        _check_loss(update.loss, stage)
        self._runtime.backward(update.loss if share == 1.0 else update.loss * share)
        collectives.average_gradients(_parameters(optimizer))
        if group.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(list(_parameters(optimizer)), group.clip_norm)
        optimizer.step()
        label = "loss" if update.group == "main" else f"loss_{update.group}"
        self._run.log(**{label: update.loss}, **update.logs)

    def _steps(self, stage: Stage) -> int:
        if isinstance(stage, Pass):
            return 0
        return self._run.count_steps(stage.batch_rows(self._run.rows, self._run.world_size), stage.needs_equal_shards)

    def _refresh(self, function: Callable[[Run], None]) -> None:
        self._run.autocast = self._runtime.autocast
        try:
            self._without_gradient(function)
        finally:
            self._run.autocast = nullcontext

    @torch.no_grad()
    def _without_gradient(self, function: Callable[[Run], None]) -> None:
        self._method.eval()
        function(self._run)

    def _take_log(self, stage: Stage, index: int) -> dict[str, float]:
        """Means of what was logged; TrainingError where one is not finite."""
        means, broke = self._run.take_log()
        if broke:
            raise _not_finite(stage, index, self._run, means, broke)
        return means

    def _check_weights(self, stage: Train) -> None:
        """TrainingError where the last step of an epoch, whose loss was finite, left weights that are not."""
        for name in (name for group in stage.groups.values() for name in group.parts):
            for key, parameter in self._parts[name].named_parameters():
                if not bool(parameter.sum().isfinite()) and not bool(parameter.isfinite().all()):
                    raise TrainingError(
                        f"stage {stage.name!r}, after epoch {self._run.epoch + 1} of {stage.epochs}: expected finite "
                        f"weights, got others in {name}.{key}; lower the learning rate or check the scaling of the data"
                    )

    def _look(self, stage: str) -> dict:
        if self._examine is None:
            return {}
        found = {}
        self._without_gradient(lambda run: found.update(self._examine(self._method, run)))
        origin = {"reused": self.reused[stage].origin} if stage in self.reused else {}
        self.health.append({"stage": stage, **found, **origin})
        return found

    def _save(self, snapshot: Snapshot, optimizers: Mapping[str, torch.optim.Optimizer], force: bool = False) -> None:
        due = force or time.monotonic() - self._saved_at >= self._save_seconds
        if self._checkpoint is None or not due or self._runtime.rank != 0:
            return
        snapshot.tensors, snapshot.optimizers = pack(self._method, optimizers)
        snapshot.history, snapshot.seconds, snapshot.health = self._history.records, self._seconds, self.health
        self._checkpoint.save(snapshot)
        self._saved_at = time.monotonic()


def check_plan(method: nn.Module, stages: Sequence[Stage], parts: Mapping[str, nn.Module]) -> None:
    """Refuse a plan that could not train what it says; PluginError names the stage, group and part.

    Checks that stage names differ, that groups name existing parts, that no part is in two groups of a stage, and that no
    trainable parameter is outside every part (it would never be moved, nor synchronised over ranks).
    """
    names = [stage.name for stage in stages]
    if len(set(names)) != len(names):
        raise PluginError(f"plan: expected different stage names, got {names}")
    inside = {id(p) for part in parts.values() for p in part.parameters()}
    loose = [name for name, p in method.named_parameters() if p.requires_grad and id(p) not in inside]
    if loose:
        raise PluginError(
            f"plan: expected every trainable parameter inside a named part, got loose {', '.join(loose)}; make it part of a "
            "child module, and name that in a Group"
        )
    for stage in stages:
        used = [name for group in stage.groups.values() for name in group.parts] if isinstance(stage, Train) else []
        if unknown := sorted(set(used) - set(parts)):
            raise PluginError(
                f"stage {stage.name!r}: expected parts among {sorted(parts)}, got {unknown}{nearest(unknown[0], parts)}"
            )
        if len(set(used)) != len(used):
            raise PluginError(f"stage {stage.name!r}: expected each part in one group, got {sorted(used)}")
        if isinstance(stage, Train) and isinstance(stage.every, Every) and stage.every.steps < 1:
            raise PluginError(f"stage {stage.name!r}: expected every.steps of at least 1, got {stage.every.steps}")


def _updates(result: object) -> Iterator[Update]:
    return result if inspect.isgenerator(result) else iter((Update(result),))


def _check_loss(loss: object, stage: Train) -> None:
    """PluginError for what a step may not return."""
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"{type(loss).__name__}"
        without = " without gradient" if isinstance(loss, Tensor) and not loss.requires_grad else ""
        raise PluginError(
            f"stage {stage.name!r}: expected its step to return the mean loss over the rows, one number with a gradient, "
            f"got {got}{without}"
        )


def _parameters(optimizer: torch.optim.Optimizer) -> Iterator[nn.Parameter]:
    return (parameter for settings in optimizer.param_groups for parameter in settings["params"])


def _not_finite(
    stage: Stage, index: int, run: Run, means: Mapping[str, float], broke: Mapping[str, int]
) -> TrainingError:
    """What to say of terms of which ``broke`` tells the first step that was not finite."""
    first = min(broke.values())
    terms = ", ".join(f"{name} = {means[name]}" for name, step in broke.items() if step == first)
    where = f"stage {stage.name!r}"
    if isinstance(stage, Train):
        step = first - run.epoch * run.steps_per_epoch
        size = stage.batch_rows(run.rows, run.world_size)
        rows = run.rows_of_step(step, size, index, stage.needs_equal_shards)
        shown = ", ".join(map(str, rows[:5])) + (f", … ({len(rows)} in all)" if len(rows) > 5 else "")
        where += (
            f", epoch {run.epoch + 1} of {stage.epochs}, step {step + 1} of {run.steps_per_epoch} with rows {shown}"
        )
    return TrainingError(
        f"{where}: expected finite losses, got {terms}; lower the learning rate or check the scaling of the data"
    )
