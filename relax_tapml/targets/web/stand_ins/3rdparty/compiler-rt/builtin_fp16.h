/*!
 * \file builtin_fp16.h
 * \brief Conversions between float32 and the 16-bit floats.
 *
 * Stands in for TVM's header of this name, which its wheel leaves out; written from the calls.
 */
#pragma once

#include <cstdint>
#include <cstring>
template <typename S, typename ST, int SM, typename D, typename DT, int DM>
static inline DT __truncXfYf2__(S a) {
  float f = static_cast<float>(a);
  uint32_t u;
  std::memcpy(&u, &f, 4);
  if (DM == 7) {
    uint32_t r = 0x7fff + ((u >> 16) & 1);
    if ((u & 0x7fffffff) > 0x7f800000) return (DT)((u >> 16) | 0x40);
    return (DT)((u + r) >> 16);
  }
  uint32_t s = (u >> 16) & 0x8000;
  int32_t e = (int32_t)((u >> 23) & 0xff) - 112;
  uint32_t m = u & 0x7fffff;
  if (((u >> 23) & 0xff) == 0xff) return (DT)(s | 0x7c00 | (m ? 0x200 | (m >> 13) : 0));
  if (e >= 31) return (DT)(s | 0x7c00);
  if (e <= 0) {
    if (e < -10) return (DT)s;
    m |= 0x800000;
    int sh = 14 - e;
    uint32_t h = m >> sh, rem = m & ((1u << sh) - 1), half = 1u << (sh - 1);
    if (rem > half || (rem == half && (h & 1))) h++;
    return (DT)(s | h);
  }
  uint32_t h = ((uint32_t)e << 10) | (m >> 13), rem = m & 0x1fff;
  if (rem > 0x1000 || (rem == 0x1000 && (h & 1))) h++;
  return (DT)(s | h);
}
template <typename S, typename ST, int SM, typename D, typename DT, int DM>
static inline D __extendXfYf2__(S a) {
  ST b;
  std::memcpy(&b, &a, sizeof(ST));
  uint32_t h = (uint32_t)b, u;
  float f;
  if (SM == 7) {
    u = h << 16;
    std::memcpy(&f, &u, 4);
    return (D)f;
  }
  uint32_t s = (h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 0x3ff;
  if (e == 31)
    u = s | 0x7f800000 | (m << 13);
  else if (e)
    u = s | ((e + 112) << 23) | (m << 13);
  else if (!m)
    u = s;
  else {
    int k = 0;
    while (!(m & 0x400)) {
      m <<= 1;
      k++;
    }
    u = s | ((113 - k) << 23) | ((m & 0x3ff) << 13);
  }
  std::memcpy(&f, &u, 4);
  return (D)f;
}
