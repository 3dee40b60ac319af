/*!
 * \file serializer.h
 * \brief How values are written to a stream: as TVM writes them, on little-endian hosts.
 *
 * Stands in for TVM's header of this name, which its wheel leaves out; written from the calls.
 */
#pragma once

#include <dlpack/dlpack.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/string.h>

#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "io.h"
namespace tvm {
namespace support {
template <typename T>
struct Serializer<T, std::enable_if_t<std::is_arithmetic_v<T> || std::is_enum_v<T>>> {
  static constexpr bool enabled = true;
  static void Write(Stream* s, const T& v) { s->Write(static_cast<const void*>(&v), sizeof(T)); }
  static bool Read(Stream* s, T* v) {
    return s->Read(static_cast<void*>(v), sizeof(T)) == sizeof(T);
  }
};
template <>
struct Serializer<DLDataType> {
  static constexpr bool enabled = true;
  static void Write(Stream* s, const DLDataType& v) {
    s->Write(v.code);
    s->Write(v.bits);
    s->Write(v.lanes);
  }
  static bool Read(Stream* s, DLDataType* v) {
    return s->Read(&v->code) && s->Read(&v->bits) && s->Read(&v->lanes);
  }
};
template <>
struct Serializer<DLDevice> {
  static constexpr bool enabled = true;
  static void Write(Stream* s, const DLDevice& v) {
    s->Write(static_cast<int32_t>(v.device_type));
    s->Write(static_cast<int32_t>(v.device_id));
  }
  static bool Read(Stream* s, DLDevice* v) {
    int32_t t, i;
    if (!s->Read(&t) || !s->Read(&i)) return false;
    v->device_type = static_cast<DLDeviceType>(t);
    v->device_id = i;
    return true;
  }
};
template <>
struct Serializer<std::string> {
  static constexpr bool enabled = true;
  static void Write(Stream* s, const std::string& v) {
    s->Write(static_cast<uint64_t>(v.size()));
    if (!v.empty()) s->Write(static_cast<const void*>(v.data()), v.size());
  }
  static bool Read(Stream* s, std::string* v) {
    uint64_t n;
    if (!s->Read(&n)) return false;
    v->resize(n);
    return n == 0 || s->Read(static_cast<void*>(&(*v)[0]), n) == n;
  }
};
template <>
struct Serializer<ffi::String> {
  static constexpr bool enabled = true;
  static void Write(Stream* s, const ffi::String& v) { s->Write(std::string(v.data(), v.size())); }
  static bool Read(Stream* s, ffi::String* v) {
    std::string t;
    if (!s->Read(&t)) return false;
    *v = ffi::String(std::move(t));
    return true;
  }
};
template <typename A, typename B>
struct Serializer<std::pair<A, B>> {
  static constexpr bool enabled = true;
  static void Write(Stream* s, const std::pair<A, B>& v) {
    s->Write(v.first);
    s->Write(v.second);
  }
  static bool Read(Stream* s, std::pair<A, B>* v) {
    return s->Read(&v->first) && s->Read(&v->second);
  }
};
template <typename T>
struct Serializer<std::vector<T>> {
  static constexpr bool enabled = true;
  static void Write(Stream* s, const std::vector<T>& v) {
    s->Write(static_cast<uint64_t>(v.size()));
    s->WriteArray(v.data(), v.size());
  }
  static bool Read(Stream* s, std::vector<T>* v) {
    uint64_t n;
    if (!s->Read(&n)) return false;
    v->resize(n);
    return s->ReadArray(v->data(), n);
  }
};
template <typename M, typename K, typename V>
struct MapSerializer {
  static constexpr bool enabled = true;
  static void Write(Stream* s, const M& m) {
    s->Write(static_cast<uint64_t>(m.size()));
    for (const auto& kv : m) {
      s->Write(K(kv.first));
      s->Write(V(kv.second));
    }
  }
  template <typename F>
  static bool ReadWith(Stream* s, F put) {
    uint64_t n;
    if (!s->Read(&n)) return false;
    for (uint64_t i = 0; i < n; ++i) {
      K k;
      V v;
      if (!s->Read(&k) || !s->Read(&v)) return false;
      put(std::move(k), std::move(v));
    }
    return true;
  }
};
template <typename K, typename V>
struct Serializer<std::unordered_map<K, V>> : MapSerializer<std::unordered_map<K, V>, K, V> {
  static bool Read(Stream* s, std::unordered_map<K, V>* m) {
    m->clear();
    return MapSerializer<std::unordered_map<K, V>, K, V>::ReadWith(
        s, [&](K k, V v) { m->emplace(std::move(k), std::move(v)); });
  }
};
template <typename K, typename V>
struct Serializer<std::map<K, V>> : MapSerializer<std::map<K, V>, K, V> {
  static bool Read(Stream* s, std::map<K, V>* m) {
    m->clear();
    return MapSerializer<std::map<K, V>, K, V>::ReadWith(
        s, [&](K k, V v) { m->emplace(std::move(k), std::move(v)); });
  }
};
template <typename T>
struct Serializer<ffi::Array<T>> {
  static constexpr bool enabled = true;
  static void Write(Stream* s, const ffi::Array<T>& a) {
    s->Write(static_cast<uint64_t>(a.size()));
    for (size_t i = 0; i < a.size(); ++i) s->Write(T(a[i]));
  }
  static bool Read(Stream* s, ffi::Array<T>* a) {
    uint64_t n;
    if (!s->Read(&n)) return false;
    a->clear();
    for (uint64_t i = 0; i < n; ++i) {
      T v;
      if (!s->Read(&v)) return false;
      a->push_back(v);
    }
    return true;
  }
};
template <typename K, typename V>
struct Serializer<ffi::Map<K, V>> {
  static constexpr bool enabled = true;
  static void Write(Stream* s, const ffi::Map<K, V>& m) {
    s->Write(static_cast<uint64_t>(m.size()));
    for (const auto& kv : m) {
      s->Write(K(kv.first));
      s->Write(V(kv.second));
    }
  }
  static bool Read(Stream* s, ffi::Map<K, V>* m) {
    uint64_t n;
    if (!s->Read(&n)) return false;
    ffi::Map<K, V> r;
    for (uint64_t i = 0; i < n; ++i) {
      ffi::Optional<K> dummy;
      K k{};
      if (!s->Read(&k)) return false;
      if constexpr (std::is_default_constructible_v<V>) {
        V v{};
        if (!s->Read(&v)) return false;
        r.Set(k, v);
      } else {
        V v(ffi::UnsafeInit{});
        if (!s->Read(&v)) return false;
        r.Set(k, v);
      }
    }
    *m = r;
    return true;
  }
};
}  // namespace support
}  // namespace tvm
