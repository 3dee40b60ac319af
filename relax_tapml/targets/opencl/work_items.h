// The order of work items, for finding races.
#pragma once

#include <optional>
#include <string>

namespace relax_tapml::opencl {

// How launches are made so that work items which race give themselves away; set for the process by
// RELAX_TAPML_OPENCL_WORK_ITEMS, which is in-order or reversed.
//
// kReversed numbers work items and groups backwards. Which work item does which part is free, so a
// kernel returns the same under both numberings, unless work items race. Where a device runs one
// after the other, as pocl's basic device does with POCL_WORK_GROUP_METHOD=loops, any two run in
// one order in kInOrder and in the other in kReversed. If one reads what the other writes, and no
// barrier is between, it reads too early in one of the two. So both run on CPUs only, without
// optimisation, and fill the memory that a group shares first: it could hold the right values of an
// earlier launch.
enum class WorkItems { kInOrder, kReversed };

// Returns the value of the variable, read once; none if it is not set or empty.
// Throws a ValueError for another value.
std::optional<WorkItems> WorkItemOrder();

// Returns the source of kernels as it is compiled: itself if no order is set. Otherwise numbered as
// the order is, and with what declares shared memory moved to the beginning of each kernel, where
// the work items fill it with NaN of every type and wait for one another.
std::string OrderedSource(const std::string& source);

// Returns the options that kernels are compiled with. Where an order is set the compiler changes
// nothing, since it may move what a work item does before what another one does: they are parallel.
const char* BuildOptions();

}  // namespace relax_tapml::opencl
