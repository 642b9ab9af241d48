// Tensors, streams and devices for launchers, through torch's stable ABI. It names only symbols that every build of
// torch has, so that a library made of it can also be opened, and refuse its arguments, where torch knows nothing of
// CUDA.
//
// The tests compile bindings for another dispatch key, to run them with emulated kernels on tensors of the CPU.
// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "expect.h"
#include "view.h"

#ifdef DCACCEL_DISPATCH_KEY
#define DCACCEL_EMULATED true
#else
#define DCACCEL_DISPATCH_KEY CUDA
#define DCACCEL_EMULATED false
#endif
#define DC_CUDA_LIBRARY_IMPL_OF(key, m) STABLE_TORCH_LIBRARY_IMPL(dcaccel, key, m)
#define DC_CUDA_LIBRARY_IMPL_EXPANDED(key, m) DC_CUDA_LIBRARY_IMPL_OF(key, m)
#define DC_CUDA_LIBRARY_IMPL(m) DC_CUDA_LIBRARY_IMPL_EXPANDED(DCACCEL_DISPATCH_KEY, m)

struct CUstream_st;

namespace dcaccel::cuda {

// Makes the device of a tensor current, and knows its stream, as long as it lives.
class Launch {
 public:
  explicit Launch(const Tensor& on) {
    if (DCACCEL_EMULATED) return;
    expect(on.is_cuda());
    const int32_t device = on.get_device_index();
    guard_.emplace(device);
    void* stream = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(current_stream()(device, &stream));
    stream_ = static_cast<CUstream_st*>(stream);
  }
  CUstream_st* stream() const { return stream_; }

  // Throws for the cudaError_t of a launcher.
  static void check(int error) {
    if (error == 0) return;
    const char* advice = error == 35    ? "install a driver for this version of CUDA"
                         : error == 209 ? "build the library for this GPU, see CUDA_ARCHITECTURES in setup.py"
                                        : "cudaError_t says what it is";
    throw std::runtime_error("launch of a CUDA kernel: expected cudaSuccess, got error " + std::to_string(error) +
                             "; " + advice);
  }

 private:
  using CurrentStream = AOTITorchError (*)(int32_t, void**);

  // Lies in torch's CUDA library, which is open if there is a tensor on CUDA.
  static CurrentStream current_stream() {
    static const auto found = [] {
      void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
      void* symbol = dlsym(library ? library : RTLD_DEFAULT, "aoti_torch_get_current_cuda_stream");
      if (!symbol)
        throw std::runtime_error("stream of a tensor: expected torch's CUDA library in this process, got none");
      return reinterpret_cast<CurrentStream>(symbol);
    }();
    return found;
  }

  std::optional<torch::stable::accelerator::DeviceGuard> guard_;
  CUstream_st* stream_ = nullptr;
};

// Contiguous, on the device of `like`, of at most two dimensions.
template <class T>
Tensor empty(const Tensor& like, std::initializer_list<int64_t> sizes) {
  const int64_t strides[] = {sizes.size() == 2 ? sizes.begin()[1] : 1, 1};
  const int32_t type = std::is_same_v<T, int64_t> ? aoti_torch_dtype_int64()
                       : sizeof(T) == 4           ? aoti_torch_dtype_float32()
                                                  : aoti_torch_dtype_float64();
  int32_t device_type, device;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &device));
  AtenTensorHandle made;
  STABLE_TORCH_ERROR_CODE_CHECK(
      aoti_torch_empty_strided(int64_t(sizes.size()), sizes.begin(), strides, type, device_type, device, &made));
  return Tensor(made);
}

template <class T>
T* data(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}
template <class T>
const T* const_data(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}

// A matrix, or a vector as a matrix of one column. Strides of sizes that are one may be anything, zero included.
template <class T>
View<T> view(const Tensor& t) {
  return {const_data<T>(t), t.stride(0), t.dim() > 1 ? t.stride(1) : 1};
}

// Calls body.template operator()<T>() for the type of the numbers of a tensor.
template <class Body>
auto with_type(const Tensor& t, const Body& body) {
  return t.scalar_type() == ScalarType::Float ? body.template operator()<float>() : body.template operator()<double>();
}

}  // namespace dcaccel::cuda
