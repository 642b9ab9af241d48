// A CUDA runtime that runs translated PTX: what nvcc's host code calls to register and launch kernels, and the few
// functions that launchers use. Host memory is device memory, and every launch is finished when it returns.
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <map>
#include <vector>

#include "ptx_rt.h"

namespace {

struct Launch {
  dim3 grid, block;
  size_t shared;
  void* stream;
};
std::map<const void*, const PtxEntry*> kernels;
Launch pending;
int last_error = 0;

int launch(const void* kernel, dim3 grid, dim3 block, void** arguments, size_t shared) {
  const auto found = kernels.find(kernel);
  if (found == kernels.end() || !found->second) {
    std::fprintf(stderr, "fake cudart: a kernel was not translated\n");
    return last_error = 98;
  }
  const PtxEntry& entry = *found->second;
  std::vector<unsigned char> params(entry.params_size + 8);
  for (unsigned i = 0; i < entry.params_count; ++i)
    std::memcpy(&params[entry.params[i].offset], arguments[i], entry.params[i].size);
  dcemu::launch(grid, block, shared, [&] { entry.run(params.data()); });
  return 0;
}

}  // namespace

extern "C" {
void** __cudaRegisterFatBinary(void*) {
  static void* handle;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*,
                            int*) {
  kernels[host] = nullptr;
  for (int i = 0; i < ptx_entry_count; ++i)
    if (!std::strcmp(ptx_entries[i].name, name)) kernels[host] = &ptx_entries[i];
}
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void* stream) {
  pending = {grid, block, shared, stream};
  return 0;
}
int __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  *grid = pending.grid, *block = pending.block, *shared = pending.shared;
  *static_cast<void**>(stream) = pending.stream;
  return 0;
}
int __cudaGetKernel(void** kernel, const void* host) {
  *kernel = const_cast<void*>(host);
  return 0;
}
int __cudaLaunchKernel(void* kernel, dim3 grid, dim3 block, void** arguments, size_t shared, void*) {
  return launch(kernel, grid, block, arguments, shared);
}
int cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** arguments, size_t shared, void*) {
  return launch(kernel, grid, block, arguments, shared);
}
int cudaMemsetAsync(void* p, int value, size_t bytes, void*) {
  std::memset(p, value, bytes);
  return 0;
}
int cudaMemcpyAsync(void* to, const void* from, size_t bytes, int, void*) {
  std::memmove(to, from, bytes);
  return 0;
}
int cudaFuncSetAttribute(const void*, int, int) { return 0; }
int cudaGetLastError() {
  const int error = last_error;
  last_error = 0;
  return error;
}
}
