// The order of work items, for finding races.
#pragma once

#include <optional>
#include <string>

#include "cl.h"
#include "devices.h"

namespace relax_tapml::opencl {

// How launches are made so that work items which race give themselves away; set for the process by
// RELAX_TAPML_OPENCL_WORK_ITEMS, which is in-order or reversed.
//
// kReversed numbers work items and groups backwards. Which work item does which part is free, so a
// kernel returns the same under both numberings, unless work items race. Where a device runs one
// after the other, as pocl's basic device does with POCL_WORK_GROUP_METHOD=loops, any two run in
// one order in kInOrder and in the other in kReversed. If one reads what the other writes, and no
// barrier is between, it reads too early in one of the two. So both run on CPUs only, and fill the
// memory that a group shares before each launch: it could hold the right values of an earlier one.
enum class WorkItems { kInOrder, kReversed };

// Returns the value of the variable, read once; none if it is not set or empty.
// Throws a ValueError for another value.
std::optional<WorkItems> WorkItemOrder();

// Returns what is put in front of the source of kernels.
std::string OrderedSource();

// Returns the options that kernels are compiled with. Where an order is set the compiler changes
// nothing, since it may move what a work item does before what another one does: they are parallel.
const char* BuildOptions();

// Fills the memory that groups of a kernel share, on all compute units, with NaN of every type, if
// an order is set. Thread-safe.
void FillLocalMemory(const ClDeviceState& device, cl_kernel kernel, cl_command_queue queue);

}  // namespace relax_tapml::opencl
