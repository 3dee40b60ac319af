#include "work_items.h"

#include <tvm/ffi/error.h>

#include <cstdlib>
#include <string_view>

namespace relax_tapml::opencl {
namespace {

constexpr const char* kReversed = R"(
static inline size_t relax_tapml_local_id(uint axis) {
  return get_local_size(axis) - 1 - get_local_id(axis);
}
static inline size_t relax_tapml_group_id(uint axis) {
  return get_num_groups(axis) - 1 - get_group_id(axis);
}
static inline size_t relax_tapml_global_id(uint axis) {
  return get_global_size(axis) - 1 - get_global_id(axis);
}
#define get_local_id relax_tapml_local_id
#define get_group_id relax_tapml_group_id
#define get_global_id relax_tapml_global_id
)";

}  // namespace

std::string WorkItemOrder() {
  const char* value = std::getenv("RELAX_TAPML_OPENCL_WORK_ITEMS");
  const std::string_view order = value == nullptr ? "" : value;
  if (order.empty()) return "";
  if (order == "reversed") return kReversed;
  TVM_FFI_THROW(ValueError) << "RELAX_TAPML_OPENCL_WORK_ITEMS: expected reversed, got " << order;
  TVM_FFI_UNREACHABLE();
}

}  // namespace relax_tapml::opencl
