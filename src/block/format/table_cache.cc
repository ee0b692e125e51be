#include "block/format/table_cache.h"

#include "block/format/file_bytes.h"

namespace atl::block {

u64 TablePage::entry(u64 index, EntryForm form) const {
  const u8* at = &bytes[index * form.width];
  if (form.width == 4) return form.big_endian ? load_be<u32>(at) : load_le<u32>(at);
  return form.big_endian ? load_be<u64>(at) : load_le<u64>(at);
}

void TablePage::set_entry(u64 index, EntryForm form, u64 value) {
  u8* at = &bytes[index * form.width];
  u64 stored = form.big_endian ? std::byteswap(value) >> (64 - 8 * form.width) : value;
  store_le_n(at, stored, form.width);
  dirty_from = std::min(dirty_from, index * form.width);
  dirty_to = std::max(dirty_to, (index + 1) * form.width);
}

Task<Result<TableCache::Ref>> TableCache::get(u64 offset, u64 bytes) {
  if (auto found = pages_.find(offset); found != pages_.end() && found->second->bytes.size() == bytes) {
    found->second->last_use = ++clock_;
    co_return found->second;
  }
  auto page = std::make_shared<TablePage>();
  page->offset = offset;
  page->bytes.resize(bytes);
  iovec whole{page->bytes.data(), bytes};
  Status status = co_await read_padded(file_, offset, {&whole, 1});
  CO_TRY(std::move(status));
  co_return insert(std::move(page));
}

/// If another request read the same page meanwhile, that one counts. Pages of different sizes at one place exist in
/// images that lie only.
TableCache::Ref TableCache::insert(Ref page) {
  auto found = pages_.find(page->offset);
  if (found != pages_.end() && (found->second->bytes.size() == page->bytes.size() || found->second->is_dirty()))
    return found->second->bytes.size() >= page->bytes.size() ? found->second : page;
  make_room();
  if (found = pages_.find(page->offset); found != pages_.end()) used_ -= found->second->bytes.size();
  page->last_use = ++clock_;
  used_ += page->bytes.size();
  pages_[page->offset] = page;
  return page;
}

TableCache::Ref TableCache::add(u64 offset, u64 bytes) {
  if (auto found = pages_.find(offset); found != pages_.end()) {
    used_ -= found->second->bytes.size();
    pages_.erase(found);
  }
  auto page = std::make_shared<TablePage>();
  page->offset = offset;
  page->bytes.resize(bytes);
  page->dirty_from = 0;
  page->dirty_to = bytes;
  return insert(std::move(page));
}

void TableCache::make_room() {
  while (used_ > limit_) {
    auto oldest = pages_.end();
    for (auto at = pages_.begin(); at != pages_.end(); ++at) {
      bool removable = !at->second->is_dirty() && at->second.use_count() == 1;
      if (removable && (oldest == pages_.end() || at->second->last_use < oldest->second->last_use)) oldest = at;
    }
    if (oldest == pages_.end()) return;
    used_ -= oldest->second->bytes.size();
    pages_.erase(oldest);
  }
}

bool TableCache::has_dirty() const {
  return std::ranges::any_of(pages_, [](auto& entry) { return entry.second->is_dirty(); });
}

std::vector<TableCache::Ref> TableCache::dirty_pages() const {
  std::vector<Ref> dirty;
  for (auto& entry : pages_)
    if (entry.second->is_dirty()) dirty.push_back(entry.second);
  return dirty;
}

void TableCache::forget_all() {
  pages_.clear();
  used_ = 0;
}

Task<Status> TableCache::write_back() {
  std::vector<Ref> dirty = dirty_pages();
  for (Ref& page : dirty) {
    std::span<const u8> changed(&page->bytes[page->dirty_from], page->dirty_to - page->dirty_from);
    Status status = co_await write_growing(file_, page->offset + page->dirty_from, changed);
    CO_TRY(std::move(status));
    page->dirty_from = ~u64{0};
    page->dirty_to = 0;
  }
  co_return Status{};
}

Task<Result<TableCache::Ref>> FlatTable::page_of(u64 index) {
  const u64 first = index / per_page() * per_page();
  const u64 count = std::min(per_page(), entries_ - first);
  return cache_.get(offset_ + first * form_.width, count * form_.width);
}

Task<Result<u64>> FlatTable::get(u64 index) {
  Result<TableCache::Ref> page = co_await page_of(index);
  co_return CO_TRY(std::move(page))->entry(index % per_page(), form_);
}

Task<Status> FlatTable::set(u64 index, u64 value) {
  Result<TableCache::Ref> page = co_await page_of(index);
  CO_TRY(std::move(page))->set_entry(index % per_page(), form_, value);
  co_return Status{};
}

}  // namespace atl::block
