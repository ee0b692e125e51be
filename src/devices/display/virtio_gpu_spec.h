// Structures of the GPU device: VIRTIO 1.2 section 5.7.6, for two dimensions.
#pragma once

#include "base/types.h"

namespace atl::devices::virtio_gpu {

inline constexpr u64 kFeatureEdid = u64{1} << 1;

enum Command : u32 {
  kGetDisplayInfo = 0x0100, kCreate2d, kUnref, kSetScanout, kFlush, kTransferToHost2d, kAttachBacking, kDetachBacking,
  kGetCapsetInfo, kGetCapset, kGetEdid,
  kUpdateCursor = 0x0300, kMoveCursor,
};
enum Response : u32 {
  kOkNoData = 0x1100, kOkDisplayInfo, kOkCapsetInfo, kOkCapset, kOkEdid,
  kErrUnspec = 0x1200, kErrOutOfMemory, kErrInvalidScanout, kErrInvalidResource, kErrInvalidContext, kErrInvalidParameter,
};
enum Format : u32 { kB8G8R8A8 = 1, kB8G8R8X8 = 2, kA8R8G8B8 = 3, kX8R8G8B8 = 4, kR8G8B8A8 = 67, kX8B8G8R8 = 68, kA8B8G8R8 = 121,
                    kR8G8B8X8 = 134 };

inline constexpr u32 kFlagFence = 1;
inline constexpr u32 kMaxScanouts = 16;
inline constexpr u32 kEventDisplay = 1;

// All little-endian, as the host.
struct Header {
  u32 type, flags;
  u64 fence_id;
  u32 ctx_id, ring_index;
};
struct Area {
  u32 x, y, width, height;
};
struct Create2d {
  Header header;
  u32 resource, format, width, height;
};
struct ResourceOnly {   // unref, detach backing
  Header header;
  u32 resource, padding;
};
struct SetScanout {
  Header header;
  Area area;
  u32 scanout, resource;
};
struct Flush {
  Header header;
  Area area;
  u32 resource, padding;
};
struct Transfer {
  Header header;
  Area area;
  u64 offset;
  u32 resource, padding;
};
struct AttachBacking {
  Header header;
  u32 resource, entries;
};
struct BackingEntry {
  u64 address;
  u32 length, padding;
};
struct GetEdid {
  Header header;
  u32 scanout, padding;
};
struct Cursor {
  Header header;
  u32 scanout, x, y, padding;
  u32 resource, hot_x, hot_y, padding2;
};
struct DisplayInfo {
  Header header;
  struct {
    Area area;
    u32 enabled, flags;
  } modes[kMaxScanouts];
};
struct Edid {
  Header header;
  u32 size, padding;
  u8 data[1024];
};
struct Config {
  u32 events_read, events_clear, scanouts, capsets;
};

}  // namespace atl::devices::virtio_gpu
