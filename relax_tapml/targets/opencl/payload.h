// The bytes that TVM saves a module of OpenCL kernels as.
//
// TVM writes them with headers that its wheel lacks: integers are little-endian, a string is its
// length in 8 bytes and its characters, an array or a map is its count in 8 bytes and its elements.
#pragma once

#include <dlpack/dlpack.h>

#include <string>
#include <vector>

namespace relax_tapml::opencl {

// A kernel as TVM's host code calls it.
struct Signature {
  std::string name;
  std::vector<DLDataType> arguments;
  std::vector<std::string> launch_tags;  // What follows the arguments: blockIdx.x, threadIdx.x.
};

struct Payload {
  std::string format;  // "cl": OpenCL C.
  std::vector<Signature> kernels;
  std::string code;
};

// Throws a ValueError if the bytes end early or do not end where they should.
Payload ReadPayload(const std::string& bytes);

}  // namespace relax_tapml::opencl
