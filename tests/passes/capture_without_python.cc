// Captures a run of an exported executable in a process without Python; prints the events.
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>
#include <tvm/ffi/string.h>

#include <cstdlib>
#include <iostream>
#include <vector>

namespace ffi = tvm::ffi;

struct HostAllocator {
  void AllocData(DLTensor* tensor) { tensor->data = std::calloc(1024, 1); }
  void FreeData(DLTensor* tensor) { std::free(tensor->data); }
};

ffi::Tensor MakeTensor(std::vector<float> values) {
  ffi::Tensor tensor =
      ffi::Tensor::FromNDAlloc(HostAllocator(), {static_cast<int64_t>(values.size())},
                               DLDataType{kDLFloat, 32, 1}, DLDevice{kDLCPU, 0});
  std::copy(values.begin(), values.end(), static_cast<float*>(tensor.data_ptr()));
  return tensor;
}

void Print(const ffi::Any& item) {
  if (auto text = item.as<ffi::String>()) {
    std::cout << *text;
  } else if (auto number = item.as<int64_t>()) {
    std::cout << *number;
  } else {
    const char* separator = "";
    for (const ffi::Any& ref : item.cast<ffi::Array<ffi::Any>>()) {
      std::cout << separator << ref.cast<ffi::String>();
      separator = " ";
    }
  }
}

int main(int, char** argv) {
  ffi::Module library = ffi::Module::LoadFromFile(argv[1]);
  ffi::reflection::GlobalDef().def("relax_tapml_test.maybe_fail",
                                   [](ffi::Tensor tensor) { return tensor; });
  ffi::Module executable = ffi::Module::LoadFromFile(argv[2]);
  ffi::Module vm =
      executable->GetFunction("vm_load_executable").value()().cast<ffi::Module>();
  const int kPooledAllocator = 2;
  vm->GetFunction("vm_initialization").value()(static_cast<int>(kDLCPU), 0, kPooledAllocator);

  auto call = [](const char* name) {
    return ffi::Function::GetGlobalRequired(std::string("relax_tapml.capture.") + name);
  };
  call("start")(1 << 20);
  vm->GetFunction("main").value()(MakeTensor({1, 2, 3, 4}), MakeTensor({10, 20, 30, 40}));
  auto events = call("drain")(100, 0).cast<ffi::Array<ffi::Array<ffi::Any>>>();
  for (const auto& event : events) {
    if (event[0].cast<ffi::String>() == "tensor") {
      auto tensor = event[2].cast<ffi::Tensor>();
      std::cout << "tensor " << event[1].cast<int64_t>() << ":";
      for (int i = 0; i < tensor.numel(); ++i) {
        std::cout << " " << static_cast<float*>(tensor.data_ptr())[i];
      }
    } else {
      const char* separator = "";
      for (const ffi::Any& item : event) {
        std::cout << separator;
        Print(item);
        separator = " ";
      }
    }
    std::cout << "\n";
  }
  ffi::Tensor packed = ffi::Tensor::FromNDAllocStrided(HostAllocator(), {4}, {2},
                                                       DLDataType{kDLInt, 4, 1}, {kDLCPU, 0});
  try {
    call("inputs")(call("begin_frame")("m"), "m/000/f", "+0", packed);
  } catch (const ffi::Error& error) {
    std::cout << "strided int4: " << error.message() << "\n";
  }
  call("stop")();
  return 0;
}
