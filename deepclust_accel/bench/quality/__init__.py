"""``dcaccel bench quality``: methods × data × seeds, last epoch, labels for the final scores only."""

from deepclust_accel.bench.quality.grid import RECORD, plan, read, run
from deepclust_accel.bench.quality.page import write
from deepclust_accel.bench.quality.summary import summarize, text

__all__ = ["RECORD", "plan", "read", "run", "summarize", "text", "write"]
