"""Operators: tensors in, tensors out; compiled kernels where there are some, plain PyTorch everywhere."""

from ._define import backend, kernel_for, record, report
from ._native import build_info, instruction_set, instruction_sets, set_instruction_set
from .center_sums import center_sums
from .mixture_posterior import mixture_posterior
from .nearest_center import nearest_center
from .residual_block import residual_block
from .soft_assign import soft_assign
from .t_similarity import t_similarity
from .wasserstein_similarity import wasserstein_similarity

__all__ = [
    "backend",
    "build_info",
    "center_sums",
    "instruction_set",
    "instruction_sets",
    "kernel_for",
    "mixture_posterior",
    "nearest_center",
    "record",
    "report",
    "residual_block",
    "set_instruction_set",
    "soft_assign",
    "t_similarity",
    "wasserstein_similarity",
]
