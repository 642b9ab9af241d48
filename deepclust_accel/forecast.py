"""What a fit will take, before it is started: steps, time and memory of every stage, from a short probe on real rows.

The probe is the fit itself, by the same engine, with stages cut to a few steps and on a part of the rows; it writes
nothing. A step costs the same whatever the number of rows. What looks at all rows (passes, refreshes of targets) is run
on two parts of them, and how its time and memory grow from one to the other says what all rows will take.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from deepclust_accel.data import Batch, DataSource, Loader, Rows
from deepclust_accel.data.rows import draw_rows
from deepclust_accel.engine import memory
from deepclust_accel.engine.engine import Engine
from deepclust_accel.engine.monitor import Watcher
from deepclust_accel.engine.pretraining import Networks
from deepclust_accel.engine.run import Run
from deepclust_accel.engine.runtime import Runtime
from deepclust_accel.engine.stage import Pass, Stage, Train
from deepclust_accel.fitting import Model, Settings, build, check_replaceable, prepare
from deepclust_accel.health import examine

__all__ = ["Forecast", "StageForecast", "forecast"]

STEPS = 20  # probed of a stage, but
SECONDS = 10.0  # are enough when
FEWEST = 5  # steps are done
FEW, MANY = 8192, 65536  # rows of the larger part, which is a sixteenth of all within these bounds
SHRINK = 4  # by which the smaller part is smaller


@dataclass(frozen=True)
class StageForecast:
    """What is expected of a stage, or of what is done before the first and after the last one.

    Attributes:
        rows: that it goes through in an epoch or pass.
        epochs, steps: all of them; 0 for what has none.
        at_most: a stop rule may end it sooner.
        seconds: expected. memory, device_memory: bytes at its peak, of the process and of tensors on a CUDA device; None
            where that is not known or there is none.
    """

    name: str
    rows: int
    epochs: int
    steps: int
    at_most: bool
    seconds: float
    memory: int | None
    device_memory: int | None


@dataclass(frozen=True)
class Forecast:
    """All stages in order, and what they come to: ``seconds`` together, the largest ``memory`` and ``device_memory``."""

    stages: list[StageForecast]
    device: str
    probe_seconds: float

    @property
    def seconds(self) -> float:
        """Of all stages together."""
        return sum(stage.seconds for stage in self.stages)

    def largest(self, name: str) -> StageForecast | None:
        """The stage with most ``seconds``, ``memory`` or ``device_memory``; None where that is not known."""
        known = [stage for stage in self.stages if getattr(stage, name) is not None]
        return max(known, key=lambda stage: getattr(stage, name), default=None)


def forecast(
    settings: Settings,
    source: DataSource,
    *,
    pretrained: Networks | None = None,
    finish: Callable[[Model, DataSource], object] = lambda model, source: None,
) -> Forecast:
    """Forecast a fit in one process.

    Args:
        finish: what follows the fit, beside going through all rows once; called with the probed model and some rows.

    All rows are read once and checked, as a fit begins. Cost beside that: twice 20 steps of each stage (down to 5 where ten
    seconds have gone), and its passes over a sixteenth of the rows, between 8,192 and 65,536 of them.

    Raises:
        ArgumentError, DataError: settings or rows that cannot be used. TrainingError: as in a fit.
    """
    Runtime(settings.device, settings.precision)  # what it imports is no part of looking at rows
    begin = time.perf_counter()
    memory.forget_peak()
    spec, runtime, scaling = prepare(settings, source)
    rows, clock = spec.rows, _Clock(runtime.device)
    checked = StageForecast("check rows", rows, 0, 0, False, time.perf_counter() - begin, *clock.peaks())
    method = build(settings, spec)
    if pretrained is not None:
        check_replaceable(settings, method)
    stages = [_settled(stage, rows) for stage in method.plan()]
    batch = max((stage.batch_size for stage in stages if isinstance(stage, Train)), default=1)
    largest = min(rows, max(FEW, min(MANY, rows // 16), batch, SHRINK * settings.n_clusters))
    sizes = [rows] if largest == rows else [largest // SHRINK, largest]
    seen = []
    for size in sizes:
        part = source if size == rows else Rows(source, draw_rows(source, size, settings.seed))
        loader = _Brief(part, seed=settings.seed, scaling=scaling, device=runtime.device)
        method, clock.seen = build(settings, replace(spec, rows=size)), []
        plan = [clock.cut(_settled(stage, rows), loader) for stage in method.plan()]
        method.plan = partial(list, plan)
        Engine(runtime, seed=settings.seed, watcher=clock, examine=examine, pretrained=pretrained).fit(method, loader)
        seen.append(clock.seen)
    every = Loader(source, seed=settings.seed)
    expected = [_expect(stage, every, sizes, found) for stage, *found in zip(stages, *seen, strict=True)]
    model = Model(settings, replace(spec, rows=largest), method, scaling, runtime.device)
    last = _finish(model, part, rows, finish, clock)
    return Forecast([checked, *expected, last], str(runtime.device), time.perf_counter() - begin)


def _settled(stage: Stage, rows: int) -> Stage:
    """The stage with the batches it would have of all rows, whatever part of them it is tried on."""
    return stage if isinstance(stage, Pass) else replace(stage, batch_size=stage.batch_rows(rows), least_steps=1)


@dataclass
class _Seen:
    """What was seen of a stage that was cut: seconds of each step, refresh (of either kind) and pass, and bytes."""

    steps: list[float] = field(default_factory=list)
    refreshes: list[float] = field(default_factory=list)
    every: list[float] = field(default_factory=list)
    whole: float = 0.0
    reused: bool = False
    memory: int | None = None
    device_memory: int | None = None


class _Clock(Watcher):
    """Takes the time of what the engine does, and the peaks of memory."""

    def __init__(self, device: torch.device):
        self._device, self.seen = device, []
        self._mark = self._apart = 0.0

    def cut(self, stage: Stage, loader: Loader) -> Stage:
        """The stage with a few steps only, and with its work on all rows timed."""
        if isinstance(stage, Pass):
            return replace(stage, run=self._timed(stage.run, lambda seen, took: setattr(seen, "whole", took)))
        steps = loader.steps(stage.batch_size, equal_shards=stage.needs_equal_shards)
        before, every = stage.before_epoch, stage.every
        return replace(
            stage,
            epochs=min(stage.epochs, math.ceil(STEPS / steps)),
            stop=None,
            before_epoch=before and self._timed(before, lambda seen, took: seen.refreshes.append(took)),
            every=every and replace(every, do=self._timed(every.do, lambda seen, took: seen.every.append(took))),
        )

    def begin_stage(self, number: int, total: int, name: str, epochs: int, steps: int, done: int) -> None:
        """Count anew."""
        memory.forget_peak(self._device)
        self.seen.append(_Seen())
        self._mark, self._apart = self._now(), 0.0

    def reused(self, origin: str) -> None:
        """Nothing to train."""
        self.seen[-1].reused = True

    def step(self) -> None:
        """Note what the step took, without refreshes before it."""
        now = self._now()
        self.seen[-1].steps.append(now - self._mark - self._apart)
        self._mark, self._apart = now, 0.0

    def end_stage(self, seconds: float, health: dict) -> None:
        """Note the peaks."""
        self.seen[-1].memory, self.seen[-1].device_memory = self.peaks()

    def peaks(self) -> tuple[int | None, int | None]:
        """Most bytes since the last time they were forgotten."""
        return memory.peak(), memory.device_peak(self._device)

    def _timed(self, function: Callable[[Run], None], note: Callable[[_Seen, float], None]) -> Callable[[Run], None]:
        def run(run: Run) -> None:
            begin = self._now()
            with memory.large_blocks_apart():
                function(run)
            took = self._now() - begin
            note(self.seen[-1], took)
            self._apart += took

        return run

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # a step has ended when the device has done it
        return time.perf_counter()


class _Brief(Loader):
    """Epochs of few batches, and fewer where steps are slow."""

    def epoch(self, **settings: Any) -> Iterator[Batch]:
        """As of any loader, cut short."""
        begin = time.perf_counter()
        with closing(super().epoch(**settings)) as batches:
            for done, batch in enumerate(batches):
                if done >= FEWEST and time.perf_counter() - begin > SECONDS:
                    return
                yield batch

    def steps(self, batch_size: int, world_size: int = 1, equal_shards: bool = False) -> int:
        """At most ``STEPS``."""
        return min(STEPS, super().steps(batch_size, world_size, equal_shards))


def _expect(stage: Stage, loader: Loader, sizes: Sequence[int], seen: Sequence[_Seen]) -> StageForecast:
    """What the stage takes on all rows, by what was seen of it on ``sizes`` rows."""
    last, rows = seen[-1], loader.rows

    def grown(name: str) -> float:
        values = [getattr(one, name) for one in seen]
        return _power([statistics.median(v) if isinstance(v, list) else v for v in values if v], sizes, rows)

    peaks = [_line([getattr(one, name) for one in seen], sizes, rows) for name in ("memory", "device_memory")]
    if isinstance(stage, Pass):
        return StageForecast(stage.name, rows, 0, 0, False, grown("whole"), *peaks)
    epochs = 0 if last.reused else stage.epochs
    steps = epochs * loader.steps(stage.batch_size, equal_shards=stage.needs_equal_shards)
    seconds = steps * statistics.median(last.steps or [0.0]) + epochs * grown("refreshes")
    if stage.every is not None:
        seconds += math.ceil(steps / stage.every.steps) * grown("every")
    return StageForecast(stage.name, rows, epochs, steps, stage.stop is not None, seconds, *peaks)


def _finish(
    model: Model, part: DataSource, rows: int, finish: Callable[[Model, DataSource], object], clock: _Clock
) -> StageForecast:
    """What follows the last stage: all rows are embedded and assigned, and ``finish`` looks at some."""
    size, widths = part.spec.rows, 0
    memory.forget_peak(model.device)
    begin = time.perf_counter()
    for _, probabilities in model.apply(part):
        widths = probabilities.shape[1]
    per_row = (time.perf_counter() - begin) / size
    begin = time.perf_counter()
    finish(model, part)
    seconds = time.perf_counter() - begin + per_row * (rows - size)
    resident, on_device = clock.peaks()
    if resident is not None:
        resident += (rows - size) * (8 + 4 * widths)  # int64 labels and float32 probabilities are read back whole
    return StageForecast("assign, score", rows, 0, 0, False, seconds, resident, on_device)


def _power(values: Sequence[float], sizes: Sequence[int], rows: int) -> float:
    """The value at ``rows`` if it grows as a power of their number, at least the first and at most the third."""
    if not values or len(values) < 2:
        return values[0] if values else 0.0
    power = math.log(values[1] / values[0]) / math.log(sizes[1] / sizes[0])
    return values[1] * (rows / sizes[1]) ** min(3.0, max(1.0, power))


def _line(values: Sequence[int | None], sizes: Sequence[int], rows: int) -> int | None:
    """The value at ``rows`` on the line through those at ``sizes``, if it rises."""
    if len(values) < 2 or None in values:
        return values[0]
    return values[1] + max(0, (values[1] - values[0]) * (rows - sizes[1]) // (sizes[1] - sizes[0]))
