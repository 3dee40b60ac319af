// Addresses that stand for OpenCL buffers.
//
// TVM keeps the memory of a tensor as a pointer; OpenCL has handles of buffers. So each buffer gets
// a range of addresses that no process has and no other buffer ever gets. A pointer then says which
// buffer it is in and where, and one whose buffer was freed is recognised.
#pragma once

#include <cstddef>

#include "cl.h"

namespace relax_tapml::opencl {

struct Place {
  int device;
  cl_mem buffer;
  size_t offset;
  size_t size_bytes;  // From the offset to the end of the buffer.
};

// Allocates a buffer of a device. One of no bytes can be used as any other. Thread-safe.
// Throws a RuntimeError if the device refuses.
void* Allocate(int device, size_t size_bytes);

// Frees a buffer once the commands that use it are over. Throws if `pointer` is none's beginning;
// does nothing while the process ends, when the driver may be gone.
void Free(void* pointer);

// Returns where a pointer points. Throws a RuntimeError that mentions `purpose` if it is in no
// buffer, or if fewer than `size_bytes` are there.
Place Find(const void* pointer, size_t size_bytes, const char* purpose);

}  // namespace relax_tapml::opencl
