// GPU device: VIRTIO 1.2 section 5.7, two dimensions, one scanout. The driver keeps pictures in its own memory, has parts of
// them copied here, and says which picture is shown.
//
// Supported: all 2D commands, EDID, sizes that viewers wish for, hardware cursor. Missing: 3D (virgl), blobs, UUIDs, further
// scanouts.
//
// Threads: commands on the loop; the picture shown and its cursor lie under a mutex, for the control thread.
#pragma once

#include <map>

#include "base/sync.h"
#include "devices/display/virtio_gpu_spec.h"
#include "devices/virtio/device.h"
#include "display/screen.h"

namespace atl::devices {

struct VirtioGpuOptions {
  u32 width = 1280, height = 800;        // the first size
  u64 max_bytes = 256 * kMiB;            // of all pictures together
  std::string id;                        // for ScreenList
};

class VirtioGpu final : public VirtioDevice, public display::Screen {
 public:
  /// `fallback`: what is shown until a driver sets a scanout; may be nullptr. `screens` outlives the device, which is
  /// built and destroyed by the control thread.
  VirtioGpu(VirtioGpuOptions options, Loop& loop, memory::AddressSpace& memory, display::ScreenList& screens,
            display::Screen* fallback = nullptr);
  ~VirtioGpu() override;

  void draw(display::Surface& surface) override;
  std::string text() override;
  u64 cursor_serial() override;
  display::CursorShape cursor() override;
  bool wish_size(u32 width, u32 height) override;

 private:
  using Area = virtio_gpu::Area;
  struct Resource {
    u32 width = 0, height = 0, format = 0;
    std::vector<u32> pixels;     // 0xaarrggbb
    std::vector<virtio_gpu::BackingEntry> backing;
    u64 bytes() const { return u64{width} * height * sizeof(u32); }
    bool holds(const Area& a) const {
      return a.x <= width && a.width <= width - a.x && a.y <= height && a.height <= height - a.y;
    }
  };
  using Resources = std::map<u32, Resource>;

  void serve(u16 index) override;
  void activated(u64 features) override;
  void reset_state() override;
  void config_written(u32 offset, u32 size) override;
  void visit(Archive& archive) override;
  void visit_resource(Archive& archive, Resource& resource);

  void run(Chain& chain);
  u32 execute(const Chain& chain, u32 command);
  u32 create(const virtio_gpu::Create2d& c);
  u32 unref(u32 id);
  u32 set_scanout(const virtio_gpu::SetScanout& c);
  u32 flush(const virtio_gpu::Flush& c);
  u32 transfer(const virtio_gpu::Transfer& c);
  u32 attach(const Chain& chain, const virtio_gpu::AttachBacking& c);
  u32 set_cursor(const virtio_gpu::Cursor& c);
  void put_display_info(Chain& chain, virtio_gpu::Header header);
  void put_edid(Chain& chain, virtio_gpu::Header header);
  bool read_row(const Resource& resource, u64 offset, std::span<u8> out) const;
  Resource* find(u32 id);
  void show(const Resource& resource, const Area& area);
  void set_shown(bool on);

  const VirtioGpuOptions options_;
  display::ScreenList& screens_;
  display::Screen* const fallback_;

  // Loop.
  Resources resources_;
  u64 used_bytes_ = 0;
  u32 shown_ = 0;            // resource of the scanout; 0: none
  Area scanout_{};           // its part that is shown

  Mutex mutex_;
  bool has_picture_ GUARDED_BY(mutex_) = false;
  display::Surface picture_ GUARDED_BY(mutex_);
  display::CursorShape cursor_ GUARDED_BY(mutex_);
  u64 cursor_serial_ GUARDED_BY(mutex_) = 0;
  u32 wished_width_ GUARDED_BY(mutex_), wished_height_ GUARDED_BY(mutex_);
};

}  // namespace atl::devices
