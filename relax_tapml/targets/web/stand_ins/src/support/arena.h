/*!
 * \file arena.h
 * \brief An arena of plain objects, recycled together.
 *
 * Stands in for TVM's header of this name, which its wheel leaves out; written from the calls.
 */
#pragma once

#include <cstddef>
#include <memory>
#include <vector>
namespace tvm {
namespace support {
class Arena {
 public:
  template <typename T>
  T* allocate_(int n = 1) {
    size_t b = sizeof(T) * static_cast<size_t>(n > 0 ? n : 1);
    b = (b + 15) & ~size_t(15);
    if (!cur_ || used_ + b > cap_) {
      size_t c = b > kPage ? b : kPage;
      pages_.emplace_back(
          new std::max_align_t[(c + sizeof(std::max_align_t) - 1) / sizeof(std::max_align_t)]);
      cur_ = reinterpret_cast<char*>(pages_.back().get());
      cap_ = c;
      used_ = 0;
    }
    void* p = cur_ + used_;
    used_ += b;
    return static_cast<T*>(p);
  }
  void RecycleAll() {
    if (pages_.size() > 1 || cap_ > kPage) {
      pages_.clear();
      cur_ = nullptr;
      cap_ = 0;
    }
    used_ = 0;
  }

 private:
  static constexpr size_t kPage = 16 << 10;
  std::vector<std::unique_ptr<std::max_align_t[]>> pages_;
  char* cur_{nullptr};
  size_t used_{0}, cap_{0};
};
}  // namespace support
}  // namespace tvm
