"""``dcaccel fit --dry-run``: the forecast as a table or as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from deepclust_accel.cli.output import emit, table

if TYPE_CHECKING:
    from deepclust_accel.forecast import Forecast

__all__ = ["show_forecast"]


def show_forecast(found: Forecast, as_json: bool) -> None:
    """Print what a fit would take."""
    slowest, largest, on_device = (found.largest(name) for name in ("seconds", "memory", "device_memory"))
    content = {
        "stages": [asdict(stage) for stage in found.stages],
        "seconds": found.seconds,
        "memory": largest and largest.memory,
        "device_memory": on_device and on_device.device_memory,
        "longest": slowest.name,
        "largest": largest and largest.name,
        "device": found.device,
        "probe_seconds": found.probe_seconds,
    }
    emit("forecast", content, as_json, "" if as_json else _text(found))


def _text(found: Forecast) -> str:
    slowest, largest, on_device = (found.largest(name) for name in ("seconds", "memory", "device_memory"))
    header = ["stage", "rows", "epochs", "steps", "time", "memory", *(["on the device"] if on_device else [])]
    rows = [
        [
            stage.name,
            f"{stage.rows:,}",
            ("≤ " if stage.at_most else "") + str(stage.epochs) if stage.epochs else "",
            f"{stage.steps:,}" if stage.steps else "",
            ("≤ " if stage.at_most else "") + _duration(stage.seconds),
            _size(stage.memory),
            *([_size(stage.device_memory)] if on_device else []),
        ]
        for stage in found.stages
    ]
    share = slowest.seconds / found.seconds if found.seconds else 0.0
    lines = [
        table(header, rows),
        f"about {_duration(found.seconds)} on {found.device}, {share:.0%} of it {slowest.name}",
        *([f"about {_size(largest.memory)} of memory, in {largest.name}"] if largest else []),
        *([f"about {_size(on_device.device_memory)} on the device, in {on_device.name}"] if on_device else []),
        f"estimated from a probe of {_duration(found.probe_seconds)}; nothing was written",
    ]
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def _size(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:,.0f} MiB"
