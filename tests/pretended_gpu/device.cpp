// A CUDA device for a PyTorch without one: its memory is the host's, and whatever it is asked for the CPU computes.
// Loaded before PyTorch. Every tensor on it is_cuda; one of the host's among its operands is an error, but for numbers.

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

namespace {

const c10::Device DEVICE(c10::DeviceType::CUDA, 0), HOST(c10::DeviceType::CPU);
const c10::Stream STREAM(c10::Stream::DEFAULT, DEVICE);

struct Guard final : c10::impl::DeviceGuardImplInterface {
    c10::DeviceType type() const override { return c10::DeviceType::CUDA; }
    c10::Device exchangeDevice(c10::Device) const override { return DEVICE; }
    c10::Device getDevice() const override { return DEVICE; }
    void setDevice(c10::Device) const override {}
    void uncheckedSetDevice(c10::Device) const noexcept override {}
    c10::Stream getStream(c10::Device) const noexcept override { return STREAM; }
    c10::Stream exchangeStream(c10::Stream) const noexcept override { return STREAM; }
    c10::DeviceIndex deviceCount() const noexcept override { return 1; }
};

// The memory of a tensor as that of a tensor on another device.
at::Tensor seen_on(const at::Tensor& x, c10::Device device) {
    auto* held = new c10::Storage(x.storage());
    auto release = [](void* one) { delete static_cast<c10::Storage*>(one); };
    c10::Storage storage(c10::Storage::use_byte_size_t(), held->nbytes(),
                         c10::DataPtr(held->mutable_data(), held, release, device),
                         c10::GetAllocator(c10::DeviceType::CPU), /*resizable=*/true);
    const auto key = device.is_cuda() ? c10::DispatchKey::CUDA : c10::DispatchKey::CPU;
    auto y = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(key), x.dtype());
    y.unsafeGetTensorImpl()->set_sizes_and_strides(x.sizes(), x.strides(), x.storage_offset());
    if (x.unsafeGetTensorImpl()->is_wrapped_number()) y.unsafeGetTensorImpl()->set_wrapped_number(true);
    return y;
}

at::Tensor on_host(const at::Tensor& x, const std::string& name) {
    if (!x.defined()) return x;
    if (x.is_cuda()) return seen_on(x, HOST);
    TORCH_CHECK(x.dim() == 0 || name == "aten::copy_", name, " of tensors on the device and one of the host: ", x.sizes());
    return x;
}

c10::IValue on_host(const c10::IValue& value, const std::string& name) {
    if (value.isTensor()) return on_host(value.toTensor(), name);
    if (value.isDevice()) return value.toDevice().is_cuda() ? HOST : value.toDevice();
    if (value.isTensorList()) {
        c10::List<at::Tensor> list;
        for (const at::Tensor& x : value.toTensorVector()) list.push_back(on_host(x, name));
        return list;
    }
    if (value.isOptionalTensorList()) {
        c10::List<std::optional<at::Tensor>> list;
        for (const auto& x : value.toOptionalTensorVector())
            list.push_back(x ? std::optional<at::Tensor>(on_host(*x, name)) : std::nullopt);
        return list;
    }
    return value;
}

c10::IValue on_device(const c10::IValue& value) {
    if (value.isTensor() && value.toTensor().defined() && value.toTensor().is_cpu()) return seen_on(value.toTensor(), DEVICE);
    if (!value.isTensorList()) return value;
    c10::List<at::Tensor> list;
    for (const at::Tensor& x : value.toTensorVector()) list.push_back(seen_on(x, DEVICE));
    return list;
}

// After an operator has changed the shape or the memory of what it writes to.
void follow(const at::Tensor& mine, const at::Tensor& written) {
    const bool is_same = mine.sizes() == written.sizes() && mine.strides() == written.strides();
    if (is_same && mine.data_ptr() == written.data_ptr()) return;
    const auto seen = seen_on(written, DEVICE);
    mine.unsafeGetTensorImpl()->set_storage_keep_dtype(seen.storage());
    mine.unsafeGetTensorImpl()->set_sizes_and_strides(seen.sizes(), seen.strides(), seen.storage_offset());
}

bool writes(const c10::Argument& argument) { return argument.alias_info() && argument.alias_info()->isWrite(); }

void compute(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
    const auto& arguments = op.schema().arguments();
    const auto& returns = op.schema().returns();
    const std::vector<c10::IValue> given(stack->end() - arguments.size(), stack->end());
    std::vector<c10::IValue> passed;
    for (const auto& value : given) passed.push_back(on_host(value, op.schema().name()));
    stack->resize(stack->size() - given.size());
    stack->insert(stack->end(), passed.begin(), passed.end());
    {
        at::AutoDispatchBelowADInplaceOrView below_autograd;
        op.callBoxed(*stack);
    }
    for (size_t i = 0; i < given.size(); ++i)
        if (writes(arguments[i]) && given[i].isTensor() && given[i].toTensor().is_cuda())
            follow(given[i].toTensor(), passed[i].toTensor());
    for (size_t i = 0; i < returns.size(); ++i) {
        c10::IValue& result = (*stack)[stack->size() - returns.size() + i];
        if (!writes(returns[i])) {
            result = on_device(result);
            continue;
        }
        for (size_t j = 0; j < given.size(); ++j)
            if (writes(arguments[j]) && *arguments[j].alias_info() == *returns[i].alias_info()) result = given[j];
    }
}

}  // namespace

namespace at {

struct Hooks final : CUDAHooksInterface {
    explicit Hooks(CUDAHooksArgs) {}
    void init() const override {}
    bool hasCUDA() const override { return true; }
    bool isBuilt() const override { return true; }
    bool isAvailable() const override { return true; }
    bool hasPrimaryContext(DeviceIndex) const override { return true; }
    DeviceIndex deviceCount() const override { return 1; }
    int getNumGPUs() const override { return 1; }
    DeviceIndex current_device() const override { return 0; }
    DeviceIndex getCurrentDevice() const override { return 0; }
};

using CUDAHooks = Hooks;  // the name under which PyTorch looks for them
REGISTER_CUDA_HOOKS(CUDAHooks)

namespace detail {
C10_REGISTER_GUARD_IMPL(CUDA, Guard)
}

}  // namespace at

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&compute>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
    m.impl("as_strided", at::native::as_strided_tensorimpl);
    m.impl("view", at::native::view);
    m.impl("set_.source_Storage", static_cast<at::Tensor& (*)(at::Tensor&, at::Storage)>(at::native::set_));
    m.impl("set_.source_Storage_storage_offset", at::native::set_storage_cpu_);
    // These ask for the kind of the device by themselves.
    for (const char* name : {"copy_", "convolution", "convolution_backward"})
        m.impl(name, torch::CppFunction::makeFromBoxedFunction<&compute>());
}
