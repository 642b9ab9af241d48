// Registers nearest_center for CUDA: allocation, device and stream around the launchers of cuda.cu.
// SPDX-License-Identifier: Apache-2.0
#include "../common/cuda_tensor.h"
#include "cuda.h"

namespace dcaccel::nearest_center {
namespace {

using namespace dcaccel::cuda;

std::tuple<Tensor, Tensor> nearest_center_cuda(Tensor x, Tensor centers) {
  return with_type(x, [&]<class T>() -> std::tuple<Tensor, Tensor> {
    const Launch launch(x);
    const Tensor index = empty<int64_t>(x, {x.size(0)}), distance = empty<T>(x, {x.size(0)});
    launch.check(nearest_cuda<T>({x.size(0), centers.size(0), x.size(1)}, view<T>(x), view<T>(centers),
                                 data<int64_t>(index), data<T>(distance), launch.stream()));
    return {index, distance};
  });
}

}  // namespace
}  // namespace dcaccel::nearest_center

DC_CUDA_LIBRARY_IMPL(m) {
  m.impl("nearest_center", TORCH_BOX(&dcaccel::nearest_center::nearest_center_cuda));
}
