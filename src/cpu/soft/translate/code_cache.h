// The translations of a VM: host code in executable memory, found by guest physical address and mode.
//
// Memory. A memfd mapped twice, at one address writable, at another executable, and resident as far as it is used. Code is
// placed one region behind the other. When the memory is full, it is closed: vCPUs leave translated code and do not enter it
// until all have left; then everything is forgotten.
//
// Finding. Each guest page that has been executed has a PageCode, whose lists vCPUs read without a lock. They hold for one
// version of the page (CodePages); a write makes it another one, and the next translation starts new lists. Regions of an old
// version stay in memory until everything goes, so that a vCPU inside finds its sites.
//
// Changing. A mutex that is only tried: a vCPU that cannot have it goes on interpreting. What vCPUs remember by themselves (jump
// caches, sites) is out of date when changes() has another value; kAttendCode makes them look.
#pragma once

#include <atomic>
#include <cstdio>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>

#include "base/mapping.h"
#include "cpu/soft/core.h"
#include "cpu/soft/soft_vm.h"
#include "cpu/soft_options.h"
#include "cpu/soft/translate/translation.h"

namespace atl::soft::translate {

using cpu::Translation;

struct Region {
  const u8* code = nullptr;
  u32 size = 0;
  GuestAddr page = 0;
  u32 version = 0;        // of the page
  Mode mode = 0;
  std::vector<Site> sites;
  std::vector<Op> ops;

  const Site* site_at(HostOffset at, bool traps) const;
};

class CodeCache final : public CodePages::Listener {
 public:
  static Result<std::unique_ptr<CodeCache>> create(SoftVm& vm, const SoftOptions& options);
  ~CodeCache() override;

  /// Before the first vCPU runs; all vCPUs have the same instructions.
  void set_cpuid(const CpuidTable& cpuid);
  const SoftOptions& options() const { return options_; }

  // -- any vCPU's thread ---------------------------------------------------------------------------------------------------

  /// Brackets the use of what find() and region_at() return. False: not now.
  bool enter(Core& core) const {
    core.in_translation.store(true, std::memory_order_seq_cst);
    if (!closed_.load(std::memory_order_seq_cst)) [[likely]] return true;
    core.in_translation.store(false, std::memory_order_release);
    return false;
  }
  static void leave(Core& core) { core.in_translation.store(false, std::memory_order_release); }

  /// The far entry for the code at `gpa`, nullptr if there is none.
  const void* find(GuestAddr gpa, Mode mode) const;
  /// The region whose code holds `host`, nullptr if none does. Also from a signal handler.
  const Region* region_at(const void* host) const;
  bool holds(const void* host) const { return in(run_, host); }

  bool covers(GuestAddr gpa) const { return vm_.code.covers(gpa); }
  bool forbidden(GuestAddr gpa) const {
    const PageCode* page = page_code(gpa);
    return page && page->forbidden.load(std::memory_order_relaxed);
  }
  u64 changes() const { return changes_.load(std::memory_order_acquire); }

  /// The interpreter decodes a block at `gpa`.
  void note_start(GuestAddr gpa);
  /// How often the page's translations were lost to writes.
  u32 rewrites(GuestAddr gpa) const;

  /// How many times as often as usual, as a power of two, code must have run to be worth a translation: the memory has been filled
  /// again and again in a short time.
  u32 patience() const { return patience_.load(std::memory_order_relaxed); }

  enum class Outcome : u8 {
    Ready,     // find() has it now
    Busy,      // try again soon
    Refused,   // not this one
  };
  /// Translates the code at `gpa`. `version` is that of its page when it was settled: writes since have raised it; `page` is the
  /// page's memory, `next` that of the page behind it in the linear address space, or none. Not between enter() and leave().
  Outcome translate(GuestAddr gpa, Mode mode, u32 version, const u8* page, const u8* next = nullptr);
  /// The second half of translate(), for code from elsewhere.
  Outcome add(GuestAddr gpa, Mode mode, u32 version, Draft draft);

  // -- any thread ------------------------------------------------------------------------------------------------------------

  /// Keeps the page from being translated (or ends that), because somebody wants to see each instruction. Waits for a
  /// translation in progress. Pages that CodePages covers.
  void set_forbidden(GuestAddr page, bool forbidden);
  void code_changed(GuestAddr page, u32 old_word) override;

  struct Stats {
    std::atomic<u64> translations{0}, refused{0}, guest_instructions{0}, code_bytes{0}, links{0}, invalidations{0}, flushes{0};
  };
  const Stats& stats() const { return stats_; }
  cpu::Counters counters() const;

 private:
  struct Node {
    u16 offset;
    Mode mode;
    const u8* far;
    const u8* near;
    Node* next;
  };
  struct OpenLink {
    u64 field;      // offset in the memory
    u16 target;
    Mode mode;
  };
  static constexpr unsigned kLists = 32;
  struct PageCode {
    std::array<std::atomic<u64>, kPageSize / 64> seen{};
    std::atomic<u32> version{0};      // 0: none; a marked page's is odd
    std::array<std::atomic<Node*>, kLists> lists{};
    std::vector<OpenLink> open;       // the mutex'
    std::atomic<u32> rewrites{0};
    std::atomic<bool> forbidden{false};
  };

  CodeCache(SoftVm& vm, const SoftOptions& options) : vm_(vm), options_(options) {}
  Status map_memory();
  static bool in(const Mapping& mapping, const void* at) {
    return static_cast<u64>(static_cast<const u8*>(at) - mapping.data()) < mapping.size();
  }
  PageCode* page_code(GuestAddr gpa) const;
  PageCode* make_page_code(GuestAddr gpa);
  std::atomic<PageCode*>* page_table();
  bool ready();
  Outcome add_locked(PageCode& page, GuestAddr gpa, Mode mode, u32 version, Draft& draft);
  const Node* find_node(const PageCode& page, u16 offset, Mode mode) const;

  bool place(const Draft& draft, u64& offset);
  void publish(PageCode& page, Region& region, u64 offset, const Draft& draft);
  void add_entries(PageCode& page, const Region& region, const Draft& draft);
  void connect(PageCode& page, const Region& region, u64 offset, const Draft& draft);
  void patch(u64 field, const u8* target);
  void close();
  bool try_empty();
  void adjust_patience();
  void announce_change();
  void write_perf_map(const Region& region);

  SoftVm& vm_;
  const SoftOptions options_;
  Fd memory_;
  Mapping write_, run_;
  Mapping page_table_memory_, region_table_memory_;
  std::atomic<std::atomic<PageCode*>*> page_table_{nullptr};
  u64 pages_ = 0;
  std::atomic<bool> closed_{false};
  std::atomic<u64> changes_{1};
  std::atomic<u32> region_count_{0};
  std::atomic<u32> patience_{0};
  Stats stats_;

  std::mutex table_mutex_;  // for adding pages
  std::deque<PageCode> page_codes_;
  std::mutex mutex_;   // everything below, and the pages' contents; never waited for by a running vCPU
  std::optional<Translator> translator_;
  std::deque<Region> regions_;
  std::deque<Node> nodes_;
  u64 used_ = 0, kept_bytes_ = 0;
  u64 emptied_ns_ = 0;
  std::FILE* perf_map_ = nullptr;
};

}  // namespace atl::soft::translate
