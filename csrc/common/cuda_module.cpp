// The Python side of the CUDA library: build facts. Importing it registers every kernel.
// SPDX-License-Identifier: Apache-2.0
#include <pybind11/pybind11.h>

#ifndef DCACCEL_CUDA_MODULE
#define DCACCEL_CUDA_MODULE _native_cuda
#endif
#ifndef DCACCEL_CUDA_VERSION
#define DCACCEL_CUDA_VERSION "unknown"
#endif
#ifndef DCACCEL_CUDA_ARCHITECTURES
#define DCACCEL_CUDA_ARCHITECTURES "unknown"
#endif
#ifndef DCACCEL_COMMIT
#define DCACCEL_COMMIT "unknown"
#endif

PYBIND11_MODULE(DCACCEL_CUDA_MODULE, m) {
  m.doc() = "Compiled CUDA kernels of deepclust_accel; importing it registers them with torch.";
  m.def("build_info", [] {
    pybind11::dict facts;
    facts["compiler"] = __VERSION__;
    facts["cuda"] = DCACCEL_CUDA_VERSION;
    facts["architectures"] = DCACCEL_CUDA_ARCHITECTURES;
    facts["commit"] = DCACCEL_COMMIT;
    return facts;
  }, "Host compiler, CUDA toolkit, GPU architectures and git commit.");
}
