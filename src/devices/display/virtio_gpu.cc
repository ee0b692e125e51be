#include "devices/display/virtio_gpu.h"

#include <algorithm>
#include <cstring>

#include "base/endian.h"
#include "devices/virtio/spec.h"
#include "display/edid.h"

namespace atl::devices {

using namespace virtio_gpu;

namespace {

constexpr u16 kControlQueue = 0;
constexpr u32 kMaxSide = 8192, kMinWish = 64, kMaxWish = 4095;
constexpr size_t kMaxResources = 4096;
constexpr u32 kMaxEntries = 16384;
constexpr u32 kCursorSide = 64;
constexpr u64 kSaveLimit = 64 * kMiB;

bool is_format(u32 f) {
  return (f >= kB8G8R8A8 && f <= kX8R8G8B8) || f == kR8G8B8A8 || f == kX8B8G8R8 || f == kA8B8G8R8 || f == kR8G8B8X8;
}

/// Bytes of a pixel in memory, by format, to 0xaarrggbb.
u32 convert(u32 format, const u8* p) {
  auto argb = [](u8 a, u8 r, u8 g, u8 b) { return u32{a} << 24 | u32{r} << 16 | u32{g} << 8 | b; };
  switch (format) {
    case kB8G8R8A8: return argb(p[3], p[2], p[1], p[0]);
    case kA8R8G8B8: return argb(p[0], p[1], p[2], p[3]);
    case kX8R8G8B8: return argb(255, p[1], p[2], p[3]);
    case kR8G8B8A8: return argb(p[3], p[0], p[1], p[2]);
    case kR8G8B8X8: return argb(255, p[0], p[1], p[2]);
    case kA8B8G8R8: return argb(p[0], p[3], p[2], p[1]);
    case kX8B8G8R8: return argb(255, p[3], p[2], p[1]);
    default: return argb(255, p[2], p[1], p[0]);
  }
}

/// A command's structure, whole or not at all.
template <class T>
bool take(const Chain& chain, T& out) {
  return chain.read_object(0, out);
}

}  // namespace

VirtioGpu::VirtioGpu(VirtioGpuOptions options, Loop& loop, memory::AddressSpace& memory, display::ScreenList& screens,
                     display::Screen* fallback)
    : VirtioDevice({.device_id = virtio::kIdGpu, .features = kFeatureEdid, .queue_sizes = {64, 16}, .config_bytes = sizeof(Config)}, loop,
                   memory),
      options_(std::move(options)), screens_(screens), fallback_(fallback), wished_width_(options_.width), wished_height_(options_.height) {
  const Config config{.events_read = 0, .events_clear = 0, .scanouts = 1, .capsets = 0};
  set_config(0, {reinterpret_cast<const u8*>(&config), sizeof config});
  set_config_writable(offsetof(Config, events_clear), sizeof config.events_clear);
  screens_.add(*this, options_.id);
}

VirtioGpu::~VirtioGpu() { screens_.remove(*this); }

// -- what is shown: control thread -----------------------------------------------------------------------------------------

void VirtioGpu::draw(display::Surface& surface) {
  {
    Lock lock(mutex_);
    if (has_picture_) {
      surface = picture_;
      return;
    }
  }
  if (fallback_) return fallback_->draw(surface);
  if (surface.width() != options_.width || surface.height() != options_.height) surface.resize(options_.width, options_.height);
}

std::string VirtioGpu::text() {
  {
    Lock lock(mutex_);
    if (has_picture_) return {};
  }
  return fallback_ ? fallback_->text() : std::string();
}

u64 VirtioGpu::cursor_serial() {
  Lock lock(mutex_);
  return cursor_serial_;
}

display::CursorShape VirtioGpu::cursor() {
  Lock lock(mutex_);
  return cursor_;
}

/// The driver is told to ask again (5.7.4).
bool VirtioGpu::wish_size(u32 width, u32 height) {
  {
    Lock lock(mutex_);
    wished_width_ = std::clamp(width, kMinWish, kMaxWish);
    wished_height_ = std::clamp(height, kMinWish, kMaxWish);
  }
  post([this] {
    u8 events[sizeof(u32)];
    store_le<u32>(events, config_value<u32>(offsetof(Config, events_read)) | kEventDisplay);
    change_config(offsetof(Config, events_read), events);
  });
  return true;
}

// -- life cycle: loop ------------------------------------------------------------------------------------------------------

void VirtioGpu::activated(u64) {
  if (Resource* resource = find(shown_)) show(*resource, scanout_);  // restored
}

void VirtioGpu::reset_state() {
  resources_.clear();
  used_bytes_ = 0;
  shown_ = 0;
  scanout_ = {};
  set_shown(false);
  const u8 none[sizeof(u32)] = {};
  set_config(offsetof(Config, events_read), none);
  set_config(offsetof(Config, events_clear), none);
  Lock lock(mutex_);
  cursor_ = {};
  ++cursor_serial_;
}

void VirtioGpu::config_written(u32, u32) {
  u8 events[sizeof(u32)], none[sizeof(u32)] = {};
  const u32 clear = config_value<u32>(offsetof(Config, events_clear));
  store_le<u32>(events, config_value<u32>(offsetof(Config, events_read)) & ~clear);
  set_config(offsetof(Config, events_read), events);
  set_config(offsetof(Config, events_clear), none);
}

void VirtioGpu::visit(Archive& archive) {
  archive.field(1, "shown", shown_);
  archive.field(2, "x", scanout_.x);
  archive.field(3, "y", scanout_.y);
  archive.field(4, "width", scanout_.width);
  archive.field(5, "height", scanout_.height);
  u32 count = static_cast<u32>(resources_.size());
  archive.field(6, "resources", count);
  if (count > kMaxResources) return archive.fail("too many resources");
  std::vector<u32> ids;
  for (const auto& [id, resource] : resources_) ids.push_back(id);
  ids.resize(count);
  if (archive.loading()) {
    resources_.clear();
    used_bytes_ = 0;
  }
  for (u32 i = 0; i < count; ++i) {
    archive.field(16 + 2 * i, "id", ids[i]);
    archive.part(17 + 2 * i, "resource", [&](Archive& a) { visit_resource(a, resources_[ids[i]]); });
  }
  for (const auto& [id, resource] : resources_) used_bytes_ += archive.loading() ? resource.bytes() : 0;
  const Resource* shown = find(shown_);
  if (shown_ && (!shown || !shown->holds(scanout_))) archive.fail("the scanout lies outside its resource");
}

void VirtioGpu::visit_resource(Archive& archive, Resource& r) {
  archive.field(1, "width", r.width);
  archive.field(2, "height", r.height);
  archive.field(3, "format", r.format);
  std::vector<u8> backing(r.backing.size() * sizeof(BackingEntry)), pixels(r.pixels.size() * sizeof(u32));
  if (!backing.empty()) std::memcpy(backing.data(), r.backing.data(), backing.size());
  if (!pixels.empty()) std::memcpy(pixels.data(), r.pixels.data(), pixels.size());
  archive.blob(4, "backing", backing, kMaxEntries * sizeof(BackingEntry));
  archive.blob(5, "pixels", pixels, kSaveLimit);
  if (!archive.loading()) return;
  if (r.width > kMaxSide || r.height > kMaxSide || !is_format(r.format) || pixels.size() != r.bytes()) return archive.fail("bad resource");
  r.backing.resize(backing.size() / sizeof(BackingEntry));
  if (!r.backing.empty()) std::memcpy(r.backing.data(), backing.data(), r.backing.size() * sizeof(BackingEntry));
  r.pixels.resize(pixels.size() / sizeof(u32));
  if (!pixels.empty()) std::memcpy(r.pixels.data(), pixels.data(), pixels.size());
}

// -- commands: loop --------------------------------------------------------------------------------------------------------

void VirtioGpu::serve(u16 index) {
  Queue& queue = queue_at(index);
  while (auto chain = queue.pop()) {
    if (index == kControlQueue) {
      run(*chain);
      continue;
    }
    Cursor cursor{};
    if (take(*chain, cursor)) set_cursor(cursor);
  }
  queue.notify();
}

void VirtioGpu::run(Chain& chain) {
  Header request{};
  if (!take(chain, request)) return;
  Header response{};
  response.flags = request.flags & kFlagFence;  // commands end before their answer: every fence has been passed
  response.fence_id = request.flags & kFlagFence ? request.fence_id : 0;
  response.ctx_id = request.ctx_id;
  if (request.type == kGetDisplayInfo) return put_display_info(chain, response);
  if (request.type == kGetEdid) return put_edid(chain, response);
  response.type = execute(chain, request.type);
  if (chain.write_object(0, response)) chain.add_written(sizeof response);
}

u32 VirtioGpu::execute(const Chain& chain, u32 command) {
  auto with = [&]<class T>(T what, auto&& act) { return take(chain, what) ? act(what) : u32{kErrInvalidParameter}; };
  switch (command) {
    case kCreate2d: return with(Create2d{}, [&](const Create2d& c) { return create(c); });
    case kUnref: return with(ResourceOnly{}, [&](const ResourceOnly& c) { return unref(c.resource); });
    case kSetScanout: return with(SetScanout{}, [&](const SetScanout& c) { return set_scanout(c); });
    case kFlush: return with(Flush{}, [&](const Flush& c) { return flush(c); });
    case kTransferToHost2d: return with(Transfer{}, [&](const Transfer& c) { return transfer(c); });
    case kAttachBacking: return with(AttachBacking{}, [&](const AttachBacking& c) { return attach(chain, c); });
    case kDetachBacking:
      return with(ResourceOnly{}, [&](const ResourceOnly& c) {
        Resource* resource = find(c.resource);
        if (!resource) return u32{kErrInvalidResource};
        resource->backing.clear();
        return u32{kOkNoData};
      });
    default: return kErrUnspec;
  }
}

VirtioGpu::Resource* VirtioGpu::find(u32 id) {
  const auto found = resources_.find(id);
  return found == resources_.end() ? nullptr : &found->second;
}

u32 VirtioGpu::create(const Create2d& c) {
  if (c.resource == 0 || find(c.resource)) return kErrInvalidResource;
  if (!is_format(c.format) || c.width == 0 || c.height == 0 || c.width > kMaxSide || c.height > kMaxSide) return kErrInvalidParameter;
  const u64 bytes = u64{c.width} * c.height * sizeof(u32);
  if (bytes > options_.max_bytes - used_bytes_ || resources_.size() >= kMaxResources) return kErrOutOfMemory;
  Resource& resource = resources_[c.resource];
  resource.width = c.width;
  resource.height = c.height;
  resource.format = c.format;
  resource.pixels.assign(size_t{c.width} * c.height, 0);
  used_bytes_ += bytes;
  return kOkNoData;
}

u32 VirtioGpu::unref(u32 id) {
  const Resource* resource = find(id);
  if (!resource) return kErrInvalidResource;
  if (shown_ == id) {
    shown_ = 0;
    set_shown(false);
  }
  used_bytes_ -= resource->bytes();
  resources_.erase(id);
  return kOkNoData;
}

u32 VirtioGpu::set_scanout(const SetScanout& c) {
  if (c.scanout != 0) return kErrInvalidScanout;
  if (c.resource == 0) {
    shown_ = 0;
    set_shown(false);
    return kOkNoData;
  }
  const Resource* resource = find(c.resource);
  if (!resource) return kErrInvalidResource;
  if (c.area.width == 0 || c.area.height == 0 || !resource->holds(c.area)) return kErrInvalidParameter;
  shown_ = c.resource;
  scanout_ = c.area;
  show(*resource, c.area);
  return kOkNoData;
}

u32 VirtioGpu::flush(const Flush& c) {
  const Resource* resource = find(c.resource);
  if (!resource) return kErrInvalidResource;
  if (!resource->holds(c.area)) return kErrInvalidParameter;
  if (c.resource == shown_) show(*resource, c.area);
  return kOkNoData;
}

/// Copies a part of a resource that lies inside the scanout to the picture shown.
void VirtioGpu::show(const Resource& resource, const Area& area) {
  const u32 left = std::max(area.x, scanout_.x), top = std::max(area.y, scanout_.y);
  const u32 right = std::min(area.x + area.width, scanout_.x + scanout_.width);
  const u32 bottom = std::min(area.y + area.height, scanout_.y + scanout_.height);
  Lock lock(mutex_);
  if (!has_picture_ || picture_.width() != scanout_.width || picture_.height() != scanout_.height) {
    picture_.resize(scanout_.width, scanout_.height);
    has_picture_ = true;
  }
  for (u32 y = top; y < bottom && left < right; ++y) {
    const u32* from = &resource.pixels[size_t{y} * resource.width + left];
    auto to = picture_.row(y - scanout_.y).subspan(left - scanout_.x, right - left);
    std::transform(from, from + to.size(), to.begin(), [](u32 pixel) { return pixel & 0xffffff; });
  }
}

void VirtioGpu::set_shown(bool on) {
  Lock lock(mutex_);
  has_picture_ = on;
}

/// The entries lie behind the structure, in the same chain.
u32 VirtioGpu::attach(const Chain& chain, const AttachBacking& c) {
  Resource* resource = find(c.resource);
  if (!resource) return kErrInvalidResource;
  if (!resource->backing.empty() || c.entries == 0 || c.entries > kMaxEntries) return kErrUnspec;
  if (chain.readable_bytes() < sizeof c + u64{c.entries} * sizeof(BackingEntry)) return kErrInvalidParameter;
  std::vector<BackingEntry> entries(c.entries);
  chain.read(sizeof c, {reinterpret_cast<u8*>(entries.data()), entries.size() * sizeof(BackingEntry)});
  resource->backing = std::move(entries);
  return kOkNoData;
}

/// From the driver's memory: rows lie a resource's width apart, the first one at `offset` (5.7.6.8).
u32 VirtioGpu::transfer(const Transfer& c) {
  Resource* resource = find(c.resource);
  if (!resource) return kErrInvalidResource;
  if (!resource->holds(c.area)) return kErrInvalidParameter;
  if (resource->backing.empty()) return kErrUnspec;
  std::vector<u8> row(size_t{c.area.width} * sizeof(u32));
  for (u32 y = 0; y < c.area.height; ++y) {
    const u64 start = u64{y} * resource->width * sizeof(u32);
    if (c.offset > ~u64{0} - start || !read_row(*resource, c.offset + start, row)) return kErrUnspec;
    u32* to = &resource->pixels[size_t{c.area.y + y} * resource->width + c.area.x];
    for (u32 x = 0; x < c.area.width; ++x) to[x] = convert(resource->format, &row[x * sizeof(u32)]);
  }
  return kOkNoData;
}

/// Bytes of the backing memory from `offset` on, over its entries. False if they end, or are no memory.
bool VirtioGpu::read_row(const Resource& resource, u64 offset, std::span<u8> out) const {
  const auto memory = guest_memory();
  for (const BackingEntry& entry : resource.backing) {
    if (out.empty()) return true;
    if (offset >= entry.length) {
      offset -= entry.length;
      continue;
    }
    const size_t part = std::min<u64>(out.size(), entry.length - offset);
    if (!memory->read(entry.address + offset, out.first(part))) return false;
    out = out.subspan(part);
    offset = 0;
  }
  return out.empty();
}

void VirtioGpu::put_display_info(Chain& chain, Header header) {
  DisplayInfo info{};
  info.header = header;
  info.header.type = kOkDisplayInfo;
  {
    Lock lock(mutex_);
    info.modes[0].area = {0, 0, wished_width_, wished_height_};
  }
  info.modes[0].enabled = 1;
  if (chain.write_object(0, info)) chain.add_written(sizeof info);
}

void VirtioGpu::put_edid(Chain& chain, Header header) {
  GetEdid request{};
  Edid edid{};
  edid.header = header;
  if (!take(chain, request) || request.scanout != 0) {
    edid.header.type = kErrInvalidScanout;
    if (chain.write_object(0, edid.header)) chain.add_written(sizeof edid.header);
    return;
  }
  edid.header.type = kOkEdid;
  edid.size = display::kEdidBytes;
  u32 width, height;
  {
    Lock lock(mutex_);
    width = wished_width_;
    height = wished_height_;
  }
  const auto block = display::make_edid(width, height);
  std::ranges::copy(block, edid.data);
  if (chain.write_object(0, edid)) chain.add_written(sizeof edid);
}

/// Moving it is the viewers' own business; the shape is 64 pixels in square (5.7.6.10).
u32 VirtioGpu::set_cursor(const Cursor& c) {
  if (c.header.type != kUpdateCursor) return kOkNoData;
  const Resource* resource = c.resource ? find(c.resource) : nullptr;
  display::CursorShape shape;
  if (resource && resource->width == kCursorSide && resource->height == kCursorSide)
    shape = {.width = kCursorSide, .height = kCursorSide, .hot_x = std::min(c.hot_x, kCursorSide - 1),
             .hot_y = std::min(c.hot_y, kCursorSide - 1), .pixels = resource->pixels};
  Lock lock(mutex_);
  cursor_ = std::move(shape);
  ++cursor_serial_;
  return kOkNoData;
}

}  // namespace atl::devices
