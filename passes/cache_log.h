/*!
 * \file cache_log.h
 * \brief What has happened to each paged KV cache since it was made.
 *
 * The state of a cache is that of its sequences: which there are, how many tokens each has, which
 * tokens they share, and in which pages these are. Calls of the runtime decide it, whatever the
 * tokens are, so the same calls give another cache the same state. While a recorder is active, the
 * calls that change caches are watched, and each cache has a log of them. A log holds no more than
 * is needed to reach the present state: passes that follow one another are one, and what concerns
 * only sequences that are gone is left out.
 *
 * Where tokens are is not computed here. Each log has a small cache of its own, with one head of
 * one value, and repeats every call on it: TVM gives it the same pages.
 */
#ifndef RELAX_TAPML_PASSES_CACHE_LOG_H_
#define RELAX_TAPML_PASSES_CACHE_LOG_H_

#include <tvm/ffi/any.h>
#include <tvm/ffi/container/shape.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/string.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace relax_tapml {

/*! \brief A global function of TVM, `vm.builtin.NAME`. */
tvm::ffi::Function RuntimeBuiltin(const std::string& name);

/*! \brief One call that changed sequences, or several passes that followed one another. */
struct CacheEvent {
  /*! \brief add, remove, fork, pop, window or forward. */
  std::string what;
  /*! \brief The sequences; each is numbered when it is added, since ids are used again. */
  std::vector<int64_t> sequences;
  /*! \brief fork: its place; pop: tokens; window: size and sink; forward: tokens of each sequence. */
  std::vector<int64_t> numbers;
  /*! \brief forward: the parent of each token, within the tree of its sequence. */
  std::optional<std::vector<int64_t>> tree;
};

/*! \brief The forward pass that a cache is in. */
struct CachePass {
  CacheEvent event;
  /*! \brief Where the tokens of each sequence were when it began: page * page size + slot. */
  std::vector<std::vector<int32_t>> before;
  /*! \brief Where they are now, with those that it adds, and without what a window has left. */
  std::vector<std::vector<int32_t>> after;
};

/*! \brief The log of one cache. Used by one thread at a time, as the cache is. */
class CacheLog {
 public:
  /*!
   * \param maker The function of the module that makes the cache.
   * \param config The sizes that it is made with.
   * \param kinds The kinds of attention of all layers.
   */
  CacheLog(std::string maker, tvm::ffi::Shape config, tvm::ffi::Shape kinds);

  /*! \brief Note a call that has returned, by the name of its function. */
  void Note(const std::string& builtin, tvm::ffi::PackedArgs args);
  /*! \brief Give up: what follows cannot be told from the log. The first reason stays. */
  void GiveUp(const std::string& reason);

  /*! \brief The pages of a layer, which the kernel that appends to them was given. */
  void NotePages(const tvm::ffi::Tensor& pages);
  /*! \brief The layer that is called now; -1 between calls. */
  void set_layer(int64_t layer) { layer_ = layer; }
  const tvm::ffi::Tensor* pages(int64_t layer) const;

  int64_t page_size() const { return config_[3]; }
  /*! \brief The pass, if the cache is in one and was changed by nothing but what was noted. */
  const CachePass& Checked(const tvm::ffi::Any& cache);
  /*! \brief What led to the state in which the pass began, and the pass, as JSON. */
  tvm::ffi::String Describe() const;

 private:
  using Sequences = std::vector<int64_t>;

  int64_t Family(int64_t sequence) const;
  int64_t Live(int64_t id) const;
  int64_t Added(int64_t id);
  void EndPass();
  void BeginPass(const tvm::ffi::Shape& ids, const tvm::ffi::Shape& added,
                 std::optional<Sequences> tree);
  void Accept(const tvm::ffi::Shape& ids, const tvm::ffi::Shape& leaves);
  void Pop(int64_t sequence, int64_t count);
  void Forget(int64_t id);
  // What an event is to the sequences of some families; without sequences if it is nothing to them.
  CacheEvent Of(const CacheEvent& event, const std::function<bool(int64_t)>& is_kept) const;
  void Push(CacheEvent event);
  static void Append(CacheEvent event, std::vector<CacheEvent>* events);
  int64_t Length(int64_t id) const;
  std::vector<int32_t> Positions(int64_t id);

  const std::string maker_;
  const tvm::ffi::Shape config_;
  const bool is_windowed_by_layer_;
  std::string reason_;
  tvm::ffi::Any shadow_;
  // What the shadow's kernel was last given.
  const std::shared_ptr<std::vector<int32_t>> positions_;
  std::vector<CacheEvent> events_;
  std::optional<CachePass> pass_;
  // By the number of a sequence: its id, and another one of its family or itself.
  Sequences ids_;
  mutable Sequences families_;
  std::unordered_map<int64_t, int64_t> live_;
  std::set<int64_t> windowed_;
  int64_t layer_{-1};
  std::map<int64_t, tvm::ffi::Tensor> pages_;
};

/*! \brief Find the log of a cache; null if it was not made while a recorder was active. */
std::shared_ptr<CacheLog> LogOf(const tvm::ffi::AnyView& cache);

/*! \brief Watch the functions that change caches, or no longer. */
void WatchCaches(bool is_watching);

}  // namespace relax_tapml

#endif  // RELAX_TAPML_PASSES_CACHE_LOG_H_
