#include "work_items.h"

#include <tvm/ffi/error.h>

#include <cstdlib>
#include <regex>
#include <sstream>
#include <string_view>

namespace relax_tapml::opencl {
namespace {

constexpr const char* kVariable = "RELAX_TAPML_OPENCL_WORK_ITEMS";

constexpr const char* kReversedIds = R"(
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

constexpr const char* kFill = R"(
static inline void relax_tapml_fill(__local uchar* memory, size_t size) {
  size_t item = 0, items = 1;
  for (uint axis = 0; axis < 3; ++axis) {
    item = item * get_local_size(axis) + get_local_id(axis);
    items *= get_local_size(axis);
  }
  for (size_t i = item; i < size; i += items) memory[i] = 0xFF;
}
)";

std::optional<WorkItems> ReadOrder() {
  const char* value = std::getenv(kVariable);
  const std::string_view order = value == nullptr ? "" : value;
  if (order.empty()) return std::nullopt;
  if (order == "in-order") return WorkItems::kInOrder;
  if (order == "reversed") return WorkItems::kReversed;
  TVM_FFI_THROW(ValueError) << kVariable << ": expected in-order or reversed, got " << order;
  TVM_FFI_UNREACHABLE();
}

// Moves declarations of shared memory to the beginning of their kernels and fills it there. TVM
// writes each on a line of its own, and gives each a name that is unique in its kernel.
std::string WithFilledMemory(const std::string& source) {
  static const std::regex declaration(R"(\s*__local \w+ (\w+)\[\d+\];\s*)");
  std::istringstream lines(source);
  std::ostringstream result;
  std::string line, beginning, body;
  const auto finish_kernel = [&] {
    if (!beginning.empty()) beginning += "  barrier(CLK_LOCAL_MEM_FENCE);\n";
    result << beginning << body;
    beginning.clear();
    body.clear();
  };
  while (std::getline(lines, line)) {
    std::smatch match;
    if (line.rfind("__kernel", 0) == 0 && line.back() == '{') {
      finish_kernel();
      result << line << '\n';
    } else if (std::regex_match(line, match, declaration)) {
      const std::string name = match[1];
      beginning += line + "\n  relax_tapml_fill((__local uchar*)" + name;
      beginning += ", sizeof(" + name + "));\n";
    } else {
      body += line + '\n';
    }
  }
  finish_kernel();
  return result.str();
}

}  // namespace

std::optional<WorkItems> WorkItemOrder() {
  static const std::optional<WorkItems> order = ReadOrder();
  return order;
}

std::string OrderedSource(const std::string& source) {
  const std::optional<WorkItems> order = WorkItemOrder();
  if (!order) return source;
  return (*order == WorkItems::kReversed ? kReversedIds : "") + (kFill + WithFilledMemory(source));
}

const char* BuildOptions() { return WorkItemOrder() ? "-cl-opt-disable" : ""; }

}  // namespace relax_tapml::opencl
