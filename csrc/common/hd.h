// What a math.h may use: function markers, and the few scalar operations that vectors and CUDA spell differently.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#if defined(__CUDACC__)
#define DC_HD __host__ __device__ __forceinline__
#else
// Forced inlining is more than speed: every cpu.cpp is compiled for several instruction sets, and an out-of-line copy
// of a template shared by them would be merged by the linker, possibly into the one a small CPU cannot run.
#define DC_HD inline __attribute__((always_inline))
#endif
#define DC_INLINE __attribute__((always_inline))  // for lambdas
#if defined(__CUDACC__)
#define DC_UNROLL _Pragma("unroll")
#else
#define DC_UNROLL _Pragma("GCC unroll 16")
#endif

namespace dcaccel {

// The number type of a compute type: T for T itself, the lane type for a vector of them.
template <class A>
struct Lane {
  using type = typename A::lane;
};
template <>
struct Lane<float> {
  using type = float;
};
template <>
struct Lane<double> {
  using type = double;
};

// a * b + c; the compiler contracts it where the target has the instruction.
template <class A>
DC_HD A fma(A a, A b, A c) {
  return a * b + c;
}

// a where m holds, else b.
DC_HD float select(bool m, float a, float b) { return m ? a : b; }
DC_HD double select(bool m, double a, double b) { return m ? a : b; }

#if defined(__CUDA_ARCH__)
// One instruction with a relative error of 2^-23 (CUDA C++ Programming Guide); a division would be ten and a branch.
// Denormal results are zero.
DC_HD float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
#else
DC_HD float reciprocal(float x) { return 1.0f / x; }
#endif
DC_HD double reciprocal(double x) { return 1.0 / x; }

// The smaller and the larger of two numbers; NaN if x is, which the functions of the standard library lose.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
DC_HD float at_most(float x, float bound) {
  float y;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(x), "f"(bound));
  return y;
}
DC_HD float at_least(float x, float bound) {
  float y;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(x), "f"(bound));
  return y;
}
#else
DC_HD float at_most(float x, float bound) { return x > bound ? bound : x; }
DC_HD float at_least(float x, float bound) { return x < bound ? bound : x; }
#endif

}  // namespace dcaccel
