// How far the values of a feature are moved before pairs of rows are summed.
//
// The losses over pairs do not change when all rows move together, but sum_j S_ij (u_i - u_j) is computed as a
// difference of two sums, which an offset would swamp. Centring must not round, though, or it would disturb the
// differences of near rows: a feature moves by its mean only if all its values are within a factor of two of it, where
// floating point subtraction is exact (Sterbenz). Any other feature has a spread as large as its mean, and no need.
// A value that is not finite makes its feature NaN.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "hd.h"

namespace dcaccel {

// `low` and `high` are the smallest and the largest value.
template <class T>
DC_HD T centring_shift(T low, T high, double mean_of_values) {
  const T not_finite = (low - low) + (high - high);
  if (not_finite != T(0)) return not_finite;
  const T mean = T(mean_of_values), size = mean < 0 ? -mean : mean;
  const T near = low < 0 ? -high : low, far = low < 0 ? -low : high;
  return near < size / 2 || far > 2 * size ? T(0) : mean;
}

}  // namespace dcaccel
