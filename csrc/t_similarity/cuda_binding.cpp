// Registers t_similarity for CUDA: allocation, device and stream around the launchers of cuda.cu.
// SPDX-License-Identifier: Apache-2.0
#include "../common/cuda_tensor.h"
#include "cuda.h"
#include "rows.h"

namespace dcaccel::t_similarity {
namespace {

using namespace dcaccel::cuda;

Sizes sizes_of(const Tensor& z, const Tensor& e) { return {z.size(0), z.size(1), e.size(1)}; }

std::tuple<Tensor, Tensor> t_similarity_cuda(Tensor z, Tensor e, double dof_z, double dof_e, bool rows, bool diagonal) {
  expect_pairs(z, e);
  return with_type(z, [&]<class T>() -> std::tuple<Tensor, Tensor> {
    const Sizes sizes = sizes_of(z, e);
    const Launch launch(z);
    const Tensor loss = empty<T>(z, {}), state = empty<T>(z, {state_size(sizes.n, sizes.d, sizes.width)}),
                 scratch = empty<double>(z, {loss_scratch_cuda(sizes, sizeof(T) == 4)});
    launch.check(loss_cuda<T>(sizes, {dof_z, dof_e, rows, diagonal}, view<T>(z), view<T>(e), data<T>(loss),
                              data<T>(state), data<double>(scratch), launch.stream()));
    return {loss, state};
  });
}

std::tuple<Tensor, Tensor> t_similarity_bwd_cuda(Tensor z, Tensor e, Tensor state, Tensor grad, double dof_z,
                                                 double dof_e, bool rows, bool diagonal, bool need_z, bool need_e) {
  expect_pairs(z, e);
  expect_kept(z, state, state_size(z.size(0), z.size(1), e.size(1)), grad);
  return with_type(z, [&]<class T>() -> std::tuple<Tensor, Tensor> {
    const Sizes sizes = sizes_of(z, e);
    const Launch launch(z);
    const Tensor g_z = empty<T>(z, {need_z * sizes.n, sizes.d}), g_e = empty<T>(z, {need_e * sizes.n, sizes.width}),
                 scratch = empty<double>(z, {gradients_scratch_cuda(sizes, sizeof(T) == 4, need_z, need_e)});
    launch.check(gradients_cuda<T>(sizes, {dof_z, dof_e, rows, diagonal}, const_data<T>(state), const_data<T>(grad),
                                   need_z ? data<T>(g_z) : nullptr, need_e ? data<T>(g_e) : nullptr,
                                   data<double>(scratch), launch.stream()));
    return {g_z, g_e};
  });
}

Own own_of(const Tensor& z, const Tensor& e, int64_t start, int64_t count) {
  expect_pairs(z, e);
  expect(start >= 0 && count >= 1 && start + count <= z.size(0));
  return {start, count};
}

void expect_numbers(const Tensor& z, const Tensor& numbers, int64_t columns) {
  expect(numbers.dim() == 2 && numbers.size(0) == z.size(0) && numbers.size(1) == columns);
  expect(numbers.scalar_type() == z.scalar_type());
}

Tensor own_nearest(Tensor z, Tensor e, double dof_z, double dof_e, bool rows, int64_t start, int64_t count) {
  const Own own = own_of(z, e, start, count);
  return with_type(z, [&]<class T>() {
    const Sizes sizes = sizes_of(z, e);
    const Launch launch(z);
    const Tensor out = empty<T>(z, {count, 2}),
                 scratch = empty<double>(z, {own_sums_scratch_cuda(sizes, own, sizeof(T) == 4)});
    launch.check(own_nearest_cuda<T>(sizes, {dof_z, dof_e, rows, false}, own, view<T>(z), view<T>(e), data<T>(out),
                                     data<double>(scratch), launch.stream()));
    return out;
  });
}

Tensor own_sums(Tensor z, Tensor e, Tensor numbers, double dof_z, double dof_e, bool rows, bool diagonal,
                double shift_z, double shift_e, int64_t start, int64_t count) {
  const Own own = own_of(z, e, start, count);
  expect_numbers(z, numbers, 2);
  return with_type(z, [&]<class T>() {
    const Sizes sizes = sizes_of(z, e);
    const Launch launch(z);
    const Tensor out = empty<double>(z, {count, 3}),
                 scratch = empty<double>(z, {own_sums_scratch_cuda(sizes, own, sizeof(T) == 4)});
    launch.check(own_sums_cuda<T>(sizes, {dof_z, dof_e, rows, diagonal}, own, view<T>(z), view<T>(e), view<T>(numbers),
                                  shift_z, shift_e, data<double>(out), data<double>(scratch), launch.stream()));
    return out;
  });
}

std::tuple<Tensor, Tensor> own_pull(Tensor z, Tensor e, Tensor numbers, double dof_z, double dof_e, bool rows,
                                    bool diagonal, double shift_z, double shift_e, int64_t start, int64_t count) {
  const Own own = own_of(z, e, start, count);
  expect_numbers(z, numbers, kOfRow);
  return with_type(z, [&]<class T>() -> std::tuple<Tensor, Tensor> {
    const Sizes sizes = sizes_of(z, e);
    const Launch launch(z);
    const Tensor g_z = empty<T>(z, {count, sizes.d}), g_e = empty<T>(z, {count, sizes.width}),
                 scratch = empty<double>(z, {own_pull_scratch_cuda(sizes, own, sizeof(T) == 4)});
    launch.check(own_pull_cuda<T>(sizes, {dof_z, dof_e, rows, diagonal}, own, view<T>(z), view<T>(e), view<T>(numbers),
                                  shift_z, shift_e, data<T>(g_z), data<T>(g_e), data<double>(scratch),
                                  launch.stream()));
    return {g_z, g_e};
  });
}

}  // namespace
}  // namespace dcaccel::t_similarity

DC_CUDA_LIBRARY_IMPL(m) {
  m.impl("t_similarity", TORCH_BOX(&dcaccel::t_similarity::t_similarity_cuda));
  m.impl("t_similarity_bwd", TORCH_BOX(&dcaccel::t_similarity::t_similarity_bwd_cuda));
  m.impl("t_similarity_own_nearest", TORCH_BOX(&dcaccel::t_similarity::own_nearest));
  m.impl("t_similarity_own_sums", TORCH_BOX(&dcaccel::t_similarity::own_sums));
  m.impl("t_similarity_own_pull", TORCH_BOX(&dcaccel::t_similarity::own_pull));
}
