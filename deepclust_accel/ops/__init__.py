"""Operators: tensors in, tensors out; compiled kernels where there are some, plain PyTorch everywhere."""

from ._define import backend, kernel_for, record, report
from ._native import build_info, instruction_set, instruction_sets, set_instruction_set
from .residual_block import residual_block
from .t_similarity import t_similarity
from .wasserstein_similarity import wasserstein_similarity

__all__ = [
    "backend",
    "build_info",
    "instruction_set",
    "instruction_sets",
    "kernel_for",
    "record",
    "report",
    "residual_block",
    "set_instruction_set",
    "t_similarity",
    "wasserstein_similarity",
]
