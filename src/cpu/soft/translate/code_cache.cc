#include "cpu/soft/translate/code_cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/clock.h"
#include "base/endian.h"
#include "cpu/soft/translate/signals.h"
#include "cpu/soft/translate/thunks.h"

namespace atl::soft::translate {
namespace {

/// Alignment that the jumps of a region are padded for (translator), and one that a host cache line has.
constexpr u64 kRegionAlign = 64;
constexpr u64 kLeastRegion = kRegionAlign;

u64 kept_bytes(const Draft& draft) {
  return sizeof(Region) + draft.sites.size() * sizeof(Site) + draft.ops.size() * sizeof(Op) + draft.entries.size() * 64;
}

}  // namespace

const Site* Region::site_at(HostOffset at, bool traps) const {
  auto site = std::lower_bound(sites.begin(), sites.end(), at, [](const Site& s, HostOffset a) { return s.at < a; });
  for (; site != sites.end() && site->at == at; ++site)
    if (site->traps == traps) return &*site;
  return nullptr;
}

Result<std::unique_ptr<CodeCache>> CodeCache::create(SoftVm& vm, const SoftOptions& options) {
  std::unique_ptr<CodeCache> cache(new CodeCache(vm, options));
  TRY(cache->map_memory().context("prepare memory for translated code"));
  TRY(watch_translated_code(*cache));
  if (options.perf_map) cache->perf_map_ = std::fopen(fmt::format("/tmp/perf-{}.map", ::getpid()).c_str(), "we");
  vm.code.set_listener(cache.get());
  return cache;
}

Status CodeCache::map_memory() {
  memory_ = Fd(::memfd_create("atoll-translations", MFD_CLOEXEC));
  if (!memory_) return os_error("create a memory file");
  const u64 size = options_.cache_bytes;
  if (::ftruncate(memory_.get(), static_cast<off_t>(size)) != 0) return os_error("size the memory file");
  write_ = TRY(Mapping::of_file(memory_, 0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE));
  run_ = TRY(Mapping::of_file(memory_, 0, size, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_NORESERVE));
  region_table_memory_ = TRY(Mapping::anonymous(size / kLeastRegion * sizeof(Region*), PROT_READ | PROT_WRITE, MAP_NORESERVE));
  write_pads(std::span<u8, kPadsBytes>(write_.data(), kPadsBytes));
  used_ = (kPadsBytes + kRegionAlign - 1) & ~(kRegionAlign - 1);
  return {};
}

CodeCache::~CodeCache() {
  vm_.code.set_listener(nullptr);
  unwatch_translated_code(*this);
  if (perf_map_) std::fclose(perf_map_);
}

cpu::Counters CodeCache::counters() const {
  return {{"translations", stats_.translations.load()},
          {"translations_refused", stats_.refused.load()},
          {"translated_instructions", stats_.guest_instructions.load()},
          {"translated_bytes", stats_.code_bytes.load()},
          {"translation_links", stats_.links.load()},
          {"translation_invalidations", stats_.invalidations.load()},
          {"translation_flushes", stats_.flushes.load()}};
}

void CodeCache::set_cpuid(const CpuidTable& cpuid) {
  if (!translator_) translator_.emplace(cpuid, HostFeatures::detect());
}

// -- pages -----------------------------------------------------------------------------------------------------------------

/// Sized when the first code runs: by then the table of code pages is.
std::atomic<CodeCache::PageCode*>* CodeCache::page_table() {
  if (auto* table = page_table_.load(std::memory_order_acquire)) return table;
  std::lock_guard lock(table_mutex_);
  if (auto* table = page_table_.load(std::memory_order_relaxed)) return table;
  auto memory = Mapping::anonymous(std::max<u64>(vm_.code.size(), 1) * sizeof(std::atomic<PageCode*>), PROT_READ | PROT_WRITE, MAP_NORESERVE);
  if (!memory) return nullptr;
  page_table_memory_ = *std::move(memory);
  pages_ = vm_.code.size();
  auto* table = reinterpret_cast<std::atomic<PageCode*>*>(page_table_memory_.data());
  page_table_.store(table, std::memory_order_release);
  return table;
}

CodeCache::PageCode* CodeCache::page_code(GuestAddr gpa) const {
  auto* table = page_table_.load(std::memory_order_acquire);
  return table && gpa >> 12 < pages_ ? table[gpa >> 12].load(std::memory_order_acquire) : nullptr;
}

CodeCache::PageCode* CodeCache::make_page_code(GuestAddr gpa) {
  auto* table = page_table();
  if (!table || gpa >> 12 >= pages_) return nullptr;
  std::atomic<PageCode*>& place = table[gpa >> 12];
  if (PageCode* page = place.load(std::memory_order_acquire)) return page;
  std::lock_guard lock(table_mutex_);
  if (PageCode* page = place.load(std::memory_order_relaxed)) return page;
  PageCode* page = &page_codes_.emplace_back();
  place.store(page, std::memory_order_release);
  return page;
}

void CodeCache::note_start(GuestAddr gpa) {
  PageCode* page = make_page_code(gpa);
  if (!page) return;
  unsigned offset = gpa & (kPageSize - 1);
  page->seen[offset / 64].fetch_or(u64{1} << offset % 64, std::memory_order_relaxed);
}

u32 CodeCache::rewrites(GuestAddr gpa) const {
  const PageCode* page = page_code(gpa);
  return page ? page->rewrites.load(std::memory_order_relaxed) : 0;
}

const CodeCache::Node* CodeCache::find_node(const PageCode& page, u16 offset, Mode mode) const {
  const Node* node = page.lists[(offset ^ offset >> 3) % kLists].load(std::memory_order_acquire);
  while (node && (node->offset != offset || node->mode != mode)) node = node->next;
  return node;
}

const void* CodeCache::find(GuestAddr gpa, Mode mode) const {
  const PageCode* page = page_code(gpa);
  if (!page || page->version.load(std::memory_order_acquire) != vm_.code.version(gpa)) return nullptr;
  const Node* node = find_node(*page, gpa & (kPageSize - 1), mode);
  return node ? node->far : nullptr;
}

const Region* CodeCache::region_at(const void* host) const {
  auto* table = reinterpret_cast<std::atomic<Region*>*>(region_table_memory_.data());
  auto* end = table + region_count_.load(std::memory_order_acquire);
  auto* after = std::upper_bound(table, end, static_cast<const u8*>(host), [](const u8* at, const std::atomic<Region*>& r) {
    return at < r.load(std::memory_order_relaxed)->code;
  });
  if (after == table) return nullptr;
  const Region* region = after[-1].load(std::memory_order_relaxed);
  // A call at the very end has its return address behind the region.
  return static_cast<const u8*>(host) <= region->code + region->size ? region : nullptr;
}

// -- changes -----------------------------------------------------------------------------------------------------------------

void CodeCache::announce_change() {
  changes_.fetch_add(1, std::memory_order_seq_cst);
  for (Core* core : vm_.cores)
    if (core) request_attention(*core, kAttendCode);
}

void CodeCache::code_changed(GuestAddr gpa, u32 old_word) {
  PageCode* page = page_code(gpa);
  if (!page || page->version.load(std::memory_order_seq_cst) != old_word) return;
  page->rewrites.fetch_add(1, std::memory_order_relaxed);
  stats_.invalidations.fetch_add(1, std::memory_order_relaxed);
  announce_change();
}

void CodeCache::set_forbidden(GuestAddr gpa, bool forbidden) {
  PageCode* page = make_page_code(gpa);
  if (!page) return;
  std::lock_guard lock(mutex_);
  page->forbidden.store(forbidden, std::memory_order_relaxed);
  if (!forbidden || page->version.load() == 0) return;
  page->version.store(0, std::memory_order_seq_cst);
  announce_change();
}

void CodeCache::close() {
  closed_.store(true, std::memory_order_seq_cst);
  for (Core* core : vm_.cores)
    if (core) request_attention(*core, kAttendCode);
}

/// A guest whose code does not fit would otherwise do little else than to translate it over and over.
void CodeCache::adjust_patience() {
  constexpr u64 kShort = 5'000'000'000, kLong = 12 * kShort;
  constexpr u32 kMost = 8;
  const u64 now = monotonic_ns(), filled_in = now - std::exchange(emptied_ns_, now);
  const u32 patience = patience_.load(std::memory_order_relaxed);
  if (filled_in < kShort && patience < kMost) patience_.store(patience + 1, std::memory_order_relaxed);
  if (filled_in > kLong && patience > 0) patience_.store(patience - 1, std::memory_order_relaxed);
}

bool CodeCache::try_empty() {
  for (const Core* core : vm_.cores)
    if (core && core->in_translation.load(std::memory_order_seq_cst)) return false;
  {
    std::lock_guard lock(table_mutex_);  // note_start() may add pages meanwhile
    for (PageCode& page : page_codes_) {
      page.version.store(0, std::memory_order_relaxed);
      for (auto& list : page.lists) list.store(nullptr, std::memory_order_relaxed);
      page.open.clear();
    }
  }
  region_count_.store(0, std::memory_order_release);
  regions_.clear();
  nodes_.clear();
  used_ = (kPadsBytes + kRegionAlign - 1) & ~(kRegionAlign - 1);
  kept_bytes_ = 0;
  u64 first = (used_ + kPageSize - 1) & ~(kPageSize - 1);
  ::fallocate(memory_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(first),
              static_cast<off_t>(write_.size() - first));
  adjust_patience();
  stats_.flushes.fetch_add(1, std::memory_order_relaxed);
  changes_.fetch_add(1, std::memory_order_seq_cst);
  closed_.store(false, std::memory_order_seq_cst);
  return true;
}

// -- translating -------------------------------------------------------------------------------------------------------------

/// The mutex is held: false while the memory is full and somebody is still in there.
bool CodeCache::ready() { return !closed_.load(std::memory_order_relaxed) || try_empty(); }

CodeCache::Outcome CodeCache::translate(GuestAddr gpa, Mode mode, u32 version, const u8* memory, const u8* next) {
  std::unique_lock lock(mutex_, std::try_to_lock);
  PageCode* page = make_page_code(gpa);
  if (!lock || !page || !translator_ || !ready()) return Outcome::Busy;
  if (page->forbidden.load(std::memory_order_relaxed)) return Outcome::Refused;
  const u16 offset = gpa & (kPageSize - 1);
  if (page->version.load() == version && find_node(*page, offset, mode)) return Outcome::Ready;
  std::array<u8, kPageSize + kTail> copy;
  std::memcpy(copy.data(), memory, kPageSize);
  if (next) std::memcpy(copy.data() + kPageSize, next, kTail);
  if (vm_.code.version(gpa) != version) return Outcome::Busy;
  OffsetSet seen;
  for (size_t i = 0; i < seen.words.size(); ++i) seen.words[i] = page->seen[i].load(std::memory_order_relaxed);
  auto draft = translator_->translate({.page = std::span(copy).first(next ? copy.size() : kPageSize), .gpa = gpa & ~(kPageSize - 1), .entry = offset, .mode = mode, .seen = &seen});
  if (draft) return add_locked(*page, gpa, mode, version, *draft);
  stats_.refused.fetch_add(1, std::memory_order_relaxed);
  return Outcome::Refused;
}

CodeCache::Outcome CodeCache::add(GuestAddr gpa, Mode mode, u32 version, Draft draft) {
  std::unique_lock lock(mutex_, std::try_to_lock);
  PageCode* page = make_page_code(gpa);
  if (!lock || !page || !ready()) return Outcome::Busy;
  return add_locked(*page, gpa, mode, version, draft);
}

CodeCache::Outcome CodeCache::add_locked(PageCode& page, GuestAddr gpa, Mode mode, u32 version, Draft& draft) {
  u64 at = 0;
  if (draft.code.size() > write_.size() / 4) return Outcome::Refused;
  if (!place(draft, at)) {
    close();
    return Outcome::Busy;
  }
  Region& region = regions_.emplace_back();
  region = {run_.data() + at, static_cast<u32>(draft.code.size()), gpa & ~(kPageSize - 1), version, mode, std::move(draft.sites),
            std::move(draft.ops)};
  publish(page, region, at, draft);
  return find_node(page, gpa & (kPageSize - 1), mode) ? Outcome::Ready : Outcome::Refused;
}

/// Copies the code to the next free place and applies its fixups. False: the memory is full.
bool CodeCache::place(const Draft& draft, u64& offset) {
  const u64 size = (draft.code.size() + kRegionAlign) & ~(kRegionAlign - 1);  // one byte more at least: see region_at()
  if (used_ + size + kept_bytes_ + kept_bytes(draft) > write_.size()) return false;
  offset = used_;
  used_ += size;
  kept_bytes_ += kept_bytes(draft);
  u8* to = write_.data() + offset;
  std::memcpy(to, draft.code.data(), draft.code.size());
  for (const ThunkFixup& fixup : draft.fixups)
    store_le<u32>(to + fixup.at, static_cast<u32>(pad_offset(fixup.thunk) - (offset + fixup.at + 4)));
  return true;
}

void CodeCache::publish(PageCode& page, Region& region, u64 offset, const Draft& draft) {
  auto* table = reinterpret_cast<std::atomic<Region*>*>(region_table_memory_.data());
  table[region_count_.load(std::memory_order_relaxed)].store(&region, std::memory_order_relaxed);
  region_count_.fetch_add(1, std::memory_order_release);
  if (page.version.load() != region.version) {
    for (auto& list : page.lists) list.store(nullptr, std::memory_order_relaxed);
    page.open.clear();
    page.version.store(region.version, std::memory_order_seq_cst);
  }
  connect(page, region, offset, draft);
  add_entries(page, region, draft);
  stats_.translations.fetch_add(1, std::memory_order_relaxed);
  stats_.guest_instructions.fetch_add(draft.guest_instructions, std::memory_order_relaxed);
  stats_.code_bytes.fetch_add(region.size, std::memory_order_relaxed);
  if (perf_map_) write_perf_map(region);
  // Whoever wrote to the page meanwhile may have looked at the version before we set it.
  if (vm_.code.version(region.page) != region.version) announce_change();
}

void CodeCache::add_entries(PageCode& page, const Region& region, const Draft& draft) {
  for (const Entry& entry : draft.entries) {
    if (find_node(page, entry.offset, region.mode)) continue;
    std::atomic<Node*>& list = page.lists[(entry.offset ^ entry.offset >> 3) % kLists];
    Node& node = nodes_.emplace_back(Node{entry.offset, region.mode, region.code + entry.far, region.code + entry.near,
                                          list.load(std::memory_order_relaxed)});
    list.store(&node, std::memory_order_release);
  }
}

/// Joins the new region with the page's others, both ways.
void CodeCache::connect(PageCode& page, const Region& region, u64 offset, const Draft& draft) {
  for (const Entry& entry : draft.entries) {
    std::erase_if(page.open, [&](const OpenLink& link) {
      if (link.target != entry.offset || link.mode != region.mode) return false;
      patch(link.field, region.code + entry.near);
      return true;
    });
  }
  for (const Link& link : draft.links) {
    if (const Node* node = find_node(page, link.target, region.mode)) patch(offset + link.at, node->near);
    else page.open.push_back({offset + link.at, link.target, region.mode});
  }
}

/// Other vCPUs may be running through: the field is written at once, and both its values lead to the same guest code.
void CodeCache::patch(u64 field, const u8* target) {
  auto* word = reinterpret_cast<u32*>(write_.data() + field);
  std::atomic_ref(*word).store(static_cast<u32>(target - (run_.data() + field + 4)), std::memory_order_release);
  stats_.links.fetch_add(1, std::memory_order_relaxed);
}

void CodeCache::write_perf_map(const Region& region) {
  fmt::print(perf_map_, "{:x} {:x} guest_{:x}_mode_{:x}\n", reinterpret_cast<u64>(region.code), region.size, region.page, region.mode);
  std::fflush(perf_map_);
}

}  // namespace atl::soft::translate
