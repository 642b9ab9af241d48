// The choice among the instruction sets a cpu.cpp was compiled for. Host part only.
//
// A kernel file has a struct of function pointers, `template <class T> struct Kernels`, and at every level the
// functions `Kernels<float> kernels_float()` and `Kernels<double> kernels_double()` in the namespace of the level.
// DC_ACTIVE_KERNELS(), in the operator's namespace, declares them and defines active_kernels<T>().
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "isa.h"

#ifdef DCACCEL_HAS_X86_LEVELS
#define DC_KERNELS_OF_LEVELS()      \
  namespace avx2 {                  \
  Kernels<float> kernels_float();   \
  Kernels<double> kernels_double(); \
  }                                 \
  namespace avx512 {                \
  Kernels<float> kernels_float();   \
  Kernels<double> kernels_double(); \
  }
#define DC_PICK(type)                                         \
  (active_level() == 2   ? avx512::kernels_##type() \
   : active_level() == 1 ? avx2::kernels_##type()   \
                         : baseline::kernels_##type())
#else
#define DC_KERNELS_OF_LEVELS()
#define DC_PICK(type) baseline::kernels_##type()
#endif

#define DC_ACTIVE_KERNELS()                           \
  DC_KERNELS_OF_LEVELS()                              \
  template <class T>                                  \
  Kernels<T> active_kernels() {                       \
    if constexpr (sizeof(T) == 4) return DC_PICK(float); \
    else return DC_PICK(double);                      \
  }
