// exp, log and log1p of one number for formulas that also run on vectors (exp_log.h) and in CUDA kernels.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "hd.h"

#if defined(__CUDACC__)
#define DC_ELEMENTARY(name, suffix) ::name##suffix
#else
#define DC_ELEMENTARY(name, suffix) __builtin_##name##suffix
#endif

namespace dcaccel {

DC_HD float exp(float x) { return DC_ELEMENTARY(exp, f)(x); }
DC_HD double exp(double x) { return DC_ELEMENTARY(exp, )(x); }
DC_HD float log(float x) { return DC_ELEMENTARY(log, f)(x); }
DC_HD double log(double x) { return DC_ELEMENTARY(log, )(x); }
DC_HD float log1p(float x) { return DC_ELEMENTARY(log1p, f)(x); }
DC_HD double log1p(double x) { return DC_ELEMENTARY(log1p, )(x); }

}  // namespace dcaccel
