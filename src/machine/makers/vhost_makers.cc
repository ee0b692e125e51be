#include "machine/makers/vhost_makers.h"

#include <fmt/core.h>

#include "devices/virtio/vhost_user_device.h"
#include "devices/virtio/vsock.h"
#include "machine/makers/nic_makers.h"

namespace atl::machine {
namespace {

using namespace devices;

/// All of the machine's RAM, which the back end must be able to map.
Result<std::shared_ptr<memory::RamBlock>> shared_ram(const Order& order) {
  const auto memory = order.context.memory.guest_memory();
  const memory::RamRange* low = memory->find(0);
  if (low && order.context.config.ram.shared && low->block->fd()) return low->block;
  return Error(ErrorKind::Invalid, "a vhost-user back end needs guest memory that is shared: "
                                   "-object memory-backend-memfd,id=mem,size=...,share=on -machine memory-backend=mem");
}

Result<std::unique_ptr<VhostUser>> connect(const Order& order, const CharId& id) {
  auto found = order.context.chars.find(id);
  if (found == order.context.chars.end())
    return Error(ErrorKind::NotFound, fmt::format("Property '{}.chardev' can't find value '{}'", order.properties.device().type, id));
  return VhostUser::create(TRY(found->second->take_connection()));
}

/// `link`: whether the device has one.
Result<MadeDevice> make(const Order& order, VhostUserShape shape, const CharId& chardev, bool link) {
  auto ram = TRY(shared_ram(order));
  MadeDevice made;
  made.thread = TRY(order.context.back_ends.own_thread(order.user));
  auto peer = TRY(connect(order, chardev));
  auto device = TRY(made.thread->run_on([&] {
    return VhostUserDevice::create(std::move(shape), std::move(peer), std::move(ram), made.thread->loop(), order.context.memory);
  }));
  if (link) made.set_link = [device = device.get()](bool up) { device->set_link(up); };
  made.device = std::move(device);
  return made;
}

}  // namespace

Result<MadeDevice> make_vhost_user_fs(const Order& order) {
  const PropertyReader& p = order.properties;
  const std::string_view tag = p.text("tag");
  if (tag.empty() || tag.size() > 36) return p.refuse("tag", "must have 1 to 36 bytes");
  if (p.text("chardev").empty()) return p.refuse("chardev", "must be given");
  const u64 queues = p.number("num-request-queues");
  if (queues == 0 || queues > 64) return p.refuse("num-request-queues", "must be between 1 and 64");
  return make(order, vhost_user_fs(tag, static_cast<u32>(queues), TRY(queue_size(p, "queue-size"))), std::string(p.text("chardev")), false);
}

Result<MadeDevice> make_vhost_user_net(const Order& order, const CharId& chardev) {
  const PropertyReader& p = order.properties;
  const u16 size = TRY(queue_size(p, "rx_queue_size"));
  if (size != TRY(queue_size(p, "tx_queue_size"))) return p.refuse("tx_queue_size", "must be the same as rx_queue_size");
  const MacAddress mac = TRY(card_address(p, order.user, order.context));
  return make(order, vhost_user_net(mac, static_cast<u16>(p.number("host_mtu")), size, p.flag("mrg_rxbuf")), chardev, true);
}

Result<MadeDevice> make_vsock(const Order& order) {
  const PropertyReader& p = order.properties;
  VirtioVsockOptions options{.guest_cid = p.optional_number("guest-cid").value_or(0), .path = std::string(p.text("socket"))};
  if (options.guest_cid < 3 || options.guest_cid == 0xffffffff) return p.refuse("guest-cid", "must be between 3 and 4294967294");
  if (options.path.empty()) return p.refuse("socket", "must name a Unix socket");
  MadeDevice made;
  made.thread = &order.context.back_ends.default_thread();
  made.device = TRY(made.thread->run_on([&] {
    return VirtioVsock::create(std::move(options), made.thread->loop(), order.context.memory);
  }));
  return made;
}

Result<MadeDevice> refuse_kernel_vsock(const Order&) {
  return Error(ErrorKind::Unsupported, "the kernel's sockets (/dev/vhost-vsock) are not supported; "
                                       "-device virtio-vsock-pci,guest-cid=N,socket=PATH offers them through a Unix socket");
}

}  // namespace atl::machine
