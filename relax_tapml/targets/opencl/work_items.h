// The order of work items.
#pragma once

#include <string>

namespace relax_tapml::opencl {

// Returns what is put in front of the source of kernels: nothing, or, if the environment has
// RELAX_TAPML_OPENCL_WORK_ITEMS=reversed, definitions that number work items and groups backwards.
//
// Which work item does which part is free, so a kernel returns the same under both numberings,
// unless work items race. Where a device runs one after the other, as pocl's CPU device does, any
// two run in one order without and in the other with it: if one reads what the other writes and no
// barrier is between, it sees the value of before in one of the two.
//
// Throws a ValueError for another value of the variable.
std::string WorkItemOrder();

}  // namespace relax_tapml::opencl
