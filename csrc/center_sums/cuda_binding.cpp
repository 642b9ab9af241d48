// Registers center_sums for CUDA: allocation, device and stream around the launchers of cuda.cu.
// SPDX-License-Identifier: Apache-2.0
#include "../common/cuda_tensor.h"
#include "cuda.h"

namespace dcaccel::center_sums {
namespace {

using namespace dcaccel::cuda;

std::tuple<Tensor, Tensor> center_sums_cuda(Tensor x, Tensor index, int64_t k) {
  return with_type(x, [&]<class T>() -> std::tuple<Tensor, Tensor> {
    const Sizes sizes{x.size(0), k, x.size(1)};
    const Launch launch(x);
    const Tensor sums = empty<double>(x, {k, sizes.d}), counts = empty<int64_t>(x, {k}),
                 scratch = empty<double>(x, {scratch_cuda(sizes)});
    launch.check(sums_cuda<T>(sizes, view<T>(x), const_data<int64_t>(index), index.stride(0), data<double>(sums),
                              data<int64_t>(counts), data<double>(scratch), launch.stream()));
    return {sums, counts};
  });
}

}  // namespace
}  // namespace dcaccel::center_sums

DC_CUDA_LIBRARY_IMPL(m) {
  m.impl("center_sums", TORCH_BOX(&dcaccel::center_sums::center_sums_cuda));
}
