// What a cuda.cu is written with. nvcc sees CUDA; any other compiler sees the emulation of the tests (dc_emu.h, found
// through an include path), which runs the same source on the CPU. Hence three macros in place of CUDA's own spelling:
//
//   DC_LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...)   in place of kernel<<<...>>>(...)
//   DC_SHARED(type, name, [dims])                                        in place of __shared__ type name[dims]
//   DC_DYN_SMEM(name)                                                    in place of extern __shared__ ... name[]
//
// Template kernels go in parentheses: DC_LAUNCH((loss_kernel<float, 8>), ...). No other inline assembly than what is
// here and in hd.h, no textures, no grid-wide synchronisation; asynchronous copies through __pipeline_memcpy_async.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#if defined(__CUDACC__)
#include <cuda_pipeline.h>
#include <cuda_runtime.h>
#define DC_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)
#define DC_SHARED(type, name, dims) __shared__ __align__(16) type name dims
#define DC_DYN_SMEM(name) extern __shared__ __align__(16) unsigned char name[]
#else
#include "dc_emu.h"
#endif

#define DC_DEVICE __device__ __forceinline__

namespace dcaccel::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

// 16 bytes of shared or global memory in one access; `from` is aligned to 16.
DC_DEVICE void load16(const float* from, float* to) {
  const float4 v = *reinterpret_cast<const float4*>(from);
  to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}
DC_DEVICE void load16(const double* from, double* to) {
  const double2 v = *reinterpret_cast<const double2*>(from);
  to[0] = v.x, to[1] = v.y;
}

}  // namespace dcaccel::cuda
