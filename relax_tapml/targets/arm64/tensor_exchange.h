/*!
 * \file tensor_exchange.h
 * \brief The server's half of file_exchange.py: copies tensors through a file that clients map.
 */
#ifndef RELAX_TAPML_TARGETS_ARM64_TENSOR_EXCHANGE_H_
#define RELAX_TAPML_TARGETS_ARM64_TENSOR_EXCHANGE_H_

#include <string>

namespace relax_tapml {

/*! \brief Register global functions that copy tensors from and to a file in a folder. */
void RegisterExchange(const std::string& folder);

}  // namespace relax_tapml

#endif  // RELAX_TAPML_TARGETS_ARM64_TENSOR_EXCHANGE_H_
