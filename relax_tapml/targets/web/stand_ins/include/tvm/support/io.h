/*!
 * \file io.h
 * \brief The stream that serializers read and write.
 *
 * Stands in for TVM's header of this name, which its wheel leaves out; written from the calls.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
namespace tvm {
namespace support {
template <typename T, typename = void>
struct Serializer;
class Stream {
 public:
  virtual ~Stream() = default;
  virtual size_t Read(void* p, size_t n) = 0;
  virtual size_t Write(const void* p, size_t n) = 0;
  template <typename T>
  void Write(const T& v) {
    Serializer<T>::Write(this, v);
  }
  template <typename T>
  bool Read(T* v) {
    return Serializer<T>::Read(this, v);
  }
  template <typename T>
  void WriteArray(const T* p, size_t n) {
    if constexpr (std::is_arithmetic_v<T>)
      Write(static_cast<const void*>(p), n * sizeof(T));
    else
      for (size_t i = 0; i < n; ++i) Serializer<T>::Write(this, p[i]);
  }
  template <typename T>
  bool ReadArray(T* p, size_t n) {
    if constexpr (std::is_arithmetic_v<T>)
      return Read(static_cast<void*>(p), n * sizeof(T)) == n * sizeof(T);
    else {
      for (size_t i = 0; i < n; ++i)
        if (!Serializer<T>::Read(this, p + i)) return false;
      return true;
    }
  }
};
}  // namespace support
}  // namespace tvm
#include "serializer.h"
