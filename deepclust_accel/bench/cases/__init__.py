"""The table of cases: one module per operator, of the operator's name. A new operator adds a module and a line here."""

from deepclust_accel.bench.case import Case
from deepclust_accel.bench.cases.t_similarity import CASE as _t_similarity
from deepclust_accel.bench.cases.wasserstein_similarity import CASE as _wasserstein_similarity

CASES: dict[str, Case] = {case.operator: case for case in (_wasserstein_similarity, _t_similarity)}
