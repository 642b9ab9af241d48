"""The table of cases: one module per operator that has a gradient, of the operator's name. A new operator adds a module
and a line here."""

from deepclust_accel.bench.case import Case
from deepclust_accel.bench.cases.mixture_posterior import CASES as _mixture_posterior
from deepclust_accel.bench.cases.residual_block import CASE as _residual_block
from deepclust_accel.bench.cases.soft_assign import CASES as _soft_assign
from deepclust_accel.bench.cases.t_similarity import CASES as _t_similarity
from deepclust_accel.bench.cases.wasserstein_similarity import CASE as _wasserstein_similarity

_ALL = (_wasserstein_similarity, *_t_similarity, _residual_block, *_soft_assign, *_mixture_posterior)
CASES: dict[str, Case] = {case.name: case for case in _ALL}
