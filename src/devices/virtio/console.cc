#include "devices/virtio/console.h"

#include <algorithm>
#include <array>
#include <atomic>

#include <fmt/core.h>

#include "base/endian.h"

namespace atl::devices {

namespace {

// Features (5.3.3).
constexpr u64 kFeatureMultiport = 1 << 1, kFeatureEmergencyWrite = 1 << 2;
// Configuration (5.3.4): columns, rows, ports, emergency write.
constexpr u32 kPortCount = 4, kEmergencyWrite = 8, kConfigBytes = 12;

constexpr u16 kQueueSize = 128;
constexpr u16 kControlReceive = 2, kControlTransmit = 3;
constexpr size_t kInputBytes = 4096;
constexpr size_t kMaxControlMessages = 256;  // for a driver that asks and never takes the answers
constexpr u64 kMaxControlBytes = 512;        // a message with the name of a port

// Control messages (5.3.6.2): port, event, value.
constexpr size_t kControlBytes = 8;
enum Event : u16 {
  kDeviceReady = 0,
  kPortAdd = 1,
  kPortRemove = 2,
  kPortReady = 3,
  kConsolePort = 4,
  kPortOpen = 6,
  kPortName = 7,
};

/// Messages one after another, each behind its length.
std::vector<u8> pack(const std::deque<std::vector<u8>>& messages) {
  std::vector<u8> out;
  for (const auto& message : messages) {
    out.insert(out.end(), {static_cast<u8>(message.size()), static_cast<u8>(message.size() >> 8)});
    out.insert(out.end(), message.begin(), message.end());
  }
  return out;
}

/// What is cut short is left out.
std::deque<std::vector<u8>> unpack(std::span<const u8> bytes) {
  std::deque<std::vector<u8>> messages;
  while (bytes.size() >= 2 && messages.size() < kMaxControlMessages) {
    size_t size = load_le<u16>(bytes.data());
    if (size > bytes.size() - 2) break;
    messages.emplace_back(bytes.begin() + 2, bytes.begin() + 2 + static_cast<std::ptrdiff_t>(size));
    bytes = bytes.subspan(2 + size);
  }
  return messages;
}

u16 receive_queue(u32 port) { return static_cast<u16>(port == 0 ? 0 : 2 + 2 * port); }
u16 transmit_queue(u32 port) { return static_cast<u16>(receive_queue(port) + 1); }

VirtioDevice::Shape shape_of(u32 max_ports) {
  const bool multiport = max_ports > 1;
  return {.device_id = virtio::kIdConsole,
          .features = kFeatureEmergencyWrite | (multiport ? kFeatureMultiport : 0),
          .queue_sizes = std::vector<u16>(multiport ? 2 + 2 * max_ports : 2, kQueueSize),
          .config_bytes = kConfigBytes};
}

}  // namespace

/// What a back end's loop and ours share for one port. Outlives the device, because a call may be under way.
struct VirtioConsole::Input {
  Mutex mutex;
  std::vector<u8> bytes GUARDED_BY(mutex);
  bool delivery_posted GUARDED_BY(mutex) = false;
  bool guest_open GUARDED_BY(mutex) = false;
  VirtioConsole* device GUARDED_BY(mutex) = nullptr;  // null once the device is gone
  u32 port = 0;

  bool waiting() {
    Lock lock(mutex);
    return !bytes.empty();
  }
  /// Moves bytes to a chain; how many.
  u64 take(Chain& chain) {
    Lock lock(mutex);
    u64 count = chain.write(0, bytes);
    bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count));
    return count;
  }
};

struct VirtioConsole::Port {
  VirtioConsolePort options;
  u32 number = 0;
  std::shared_ptr<Input> input = std::make_shared<Input>();
  bool guest_open = false;
  bool host_open = false;
  u64 sent = 0;  // bytes of the chain at the head of the transmit queue that the back end has taken
};

VirtioConsole::VirtioConsole(u32 max_ports, Loop& loop, memory::AddressSpace& memory)
    : VirtioDevice(shape_of(max_ports), loop, memory), max_ports_(max_ports) {
  std::array<u8, 4> count{};
  store_le<u32>(count.data(), max_ports);
  set_config(kPortCount, count);
  set_config_writable(kEmergencyWrite, 4);
}

VirtioConsole::~VirtioConsole() {
  for (auto& port : ports_) {
    if (port->options.backend) port->options.backend->detach();
    Lock lock(port->input->mutex);
    port->input->device = nullptr;
  }
}

// Ports.

Status VirtioConsole::check(const VirtioConsolePort& port) const {
  auto fault = [](std::string why) { return Error(ErrorKind::Invalid, "virtio-serial-bus: " + std::move(why)); };
  if (port.number && *port.number >= max_ports_) return fault(fmt::format("Out-of-range port id specified, max. allowed: {}", max_ports_ - 1));
  if (port.number && find(*port.number)) return fault(fmt::format("A port already exists at id {}", *port.number));
  if (port.number == 0u && !port.console) return fault("port number 0 is reserved for virtconsole devices");
  if (!port.number && !free_number(port.console)) return fault("Maximum port limit for this device reached");
  if (port.name.size() > kMaxControlBytes - kControlBytes - 2) return fault("the port's name is too long");
  return {};
}

std::optional<u32> VirtioConsole::free_number(bool console) const {
  for (u32 number = console ? 0 : 1; number < max_ports_; ++number)
    if (!find(number)) return number;
  return std::nullopt;
}

Result<VirtioConsole::Added> VirtioConsole::add(VirtioConsolePort options) {
  TRY(check(options));
  auto port = std::make_unique<Port>();
  const u32 number = options.number ? *options.number : *free_number(options.console);
  port->number = number;
  port->options = std::move(options);
  port->host_open = port->options.console;
  if (port->options.backend) port->options.backend->set_open(false);
  auto input = port->input;
  {
    Lock lock(input->mutex);
    input->device = this;
    input->port = number;
  }
  ports_.push_back(std::move(port));
  tell(number, kPortAdd);
  return Added{number, frontend_of(input)};
}

void VirtioConsole::remove(u32 number) {
  Port* port = find(number);
  if (!port) return;
  {
    Lock lock(port->input->mutex);
    port->input->device = nullptr;
  }
  std::erase_if(ports_, [&](const auto& p) { return p.get() == port; });
  tell(number, kPortRemove);
}

/// A driver that knows the other ports learns of this one's coming or going.
void VirtioConsole::tell(u32 number, u16 event) {
  if (!driver_ready_ || !multiport()) return;
  send_control(number, event, 1);
  serve_later(kControlReceive);
}

/// These run on the back end's loop: they fill the buffer and post.
CharBackend::Frontend VirtioConsole::frontend_of(const std::shared_ptr<Input>& input) {
  auto on_device = [input](auto call) {
    Lock lock(input->mutex);
    VirtioConsole* device = input->device;
    if (device) device->post([device, call, number = input->port] {
      if (Port* port = device->find(number)) call(*device, *port);
    });
  };
  return {
      .can_receive = [input]() -> size_t {
        Lock lock(input->mutex);
        return input->guest_open ? kInputBytes - std::min(input->bytes.size(), kInputBytes) : 0;
      },
      .receive = [input, on_device](std::span<const u8> data) {
        {
          Lock lock(input->mutex);
          size_t room = kInputBytes - std::min(input->bytes.size(), kInputBytes);
          data = data.first(std::min(room, data.size()));
          input->bytes.insert(input->bytes.end(), data.begin(), data.end());
          if (std::exchange(input->delivery_posted, true)) return;
        }
        on_device([](VirtioConsole& device, Port& port) { device.deliver_input(port); });
      },
      .event = [on_device](CharEvent event) {
        if (event == CharEvent::Break) return;
        bool open = event == CharEvent::Opened;
        on_device([open](VirtioConsole& device, Port& port) { device.host_changed(port.number, open); });
      },
      .writable = [on_device] {
        on_device([](VirtioConsole& device, Port& port) { device.serve_later(transmit_queue(port.number)); });
      },
  };
}

VirtioConsole::Port* VirtioConsole::find(u32 number) const {
  for (auto& port : ports_)
    if (port->number == number) return port.get();
  return nullptr;
}

bool VirtioConsole::multiport() const { return chosen_features() & kFeatureMultiport; }

/// Without multiport the one console counts as open while the driver is up.
void VirtioConsole::activated(u64) {
  if (Port* port = find(0); port && !multiport()) set_guest_open(*port, true);
}

void VirtioConsole::stopping() {}

void VirtioConsole::reset_state() {
  control_out_.clear();
  driver_ready_ = false;
  for (auto& port : ports_) {
    set_guest_open(*port, false);
    port->sent = 0;
  }
}

void VirtioConsole::set_guest_open(Port& port, bool open) {
  const bool changed = std::exchange(port.guest_open, open) != open;
  {
    Lock lock(port.input->mutex);
    port.input->guest_open = open;
    if (!open) port.input->bytes.clear();
  }
  if (changed && port.options.backend) port.options.backend->set_open(open);
  if (changed && port.options.on_open) port.options.on_open(open);
  if (open && port.options.backend) port.options.backend->accept_input();
}

void VirtioConsole::serve(u16 index) {
  if (multiport() && index == kControlReceive) return flush_control();
  if (multiport() && index == kControlTransmit) {
    while (auto chain = queue_at(index).pop()) receive_control(*chain);
    queue_at(index).notify();
    return flush_control();
  }
  u32 number = index < 2 ? 0 : (index - 2u) / 2;
  Port* port = find(number);
  if (!port) {
    while (queue_at(index).pop()) continue;  // a port that does not exist
    return queue_at(index).notify();
  }
  index % 2 == 0 ? deliver_input(*port) : transmit(*port);
}

void VirtioConsole::transmit(Port& port) {
  Queue& queue = queue_at(transmit_queue(port.number));
  while (auto chain = queue.pop()) {
    if (transmit_chain(port, *chain)) {
      port.sent = 0;
    } else {
      queue.put_back(std::move(*chain));  // goes on when the back end is writable
      break;
    }
  }
  queue.notify();
}

/// False if the back end is full; `port.sent` says how far it got.
bool VirtioConsole::transmit_chain(Port& port, const Chain& chain) {
  if (!port.options.backend) return true;
  u64 skip = port.sent;
  for (const iovec& part : chain.readable()) {
    if (skip >= part.iov_len) {
      skip -= part.iov_len;
      continue;
    }
    std::span<const u8> data(static_cast<const u8*>(part.iov_base) + skip, part.iov_len - skip);
    size_t taken = port.options.backend->write(data);
    port.sent += taken;
    skip = 0;
    if (taken < data.size()) return false;
  }
  return true;
}

void VirtioConsole::deliver_input(Port& port) {
  {
    Lock lock(port.input->mutex);
    port.input->delivery_posted = false;
  }
  if (!running() || !port.guest_open) return;
  refresh_memory();
  Queue& queue = queue_at(receive_queue(port.number));
  bool delivered = false;
  while (port.input->waiting()) {
    auto chain = queue.pop();
    if (!chain) break;
    chain->add_written(port.input->take(*chain));
    delivered = true;
  }
  queue.notify();
  if (delivered && port.options.backend) port.options.backend->accept_input();
}

void VirtioConsole::receive_control(const Chain& chain) {
  std::array<u8, kControlBytes> message;
  if (chain.read(0, message) != kControlBytes) return;
  u32 number = load_le<u32>(&message[0]);
  u16 event = load_le<u16>(&message[4]), value = load_le<u16>(&message[6]);
  if (event == kDeviceReady) driver_ready_ = value == 1;
  if (event == kDeviceReady && value == 1)
    for (auto& port : ports_) send_control(port->number, kPortAdd, 1);
  Port* port = find(number);
  if (!port) return;
  if (event == kPortReady && value == 1) announce(*port);
  if (event == kPortOpen) set_guest_open(*port, value != 0);
}

void VirtioConsole::announce(Port& port) {
  u32 number = port.number;
  if (port.options.console) send_control(number, kConsolePort, 1);
  if (!port.options.name.empty()) send_control(number, kPortName, 1, port.options.name);
  if (port.host_open) send_control(number, kPortOpen, 1);
}

void VirtioConsole::send_control(u32 port, u16 event, u16 value, std::string_view text) {
  if (control_out_.size() >= kMaxControlMessages) return;
  std::vector<u8> message(kControlBytes);
  store_le<u32>(&message[0], port);
  store_le<u16>(&message[4], event);
  store_le<u16>(&message[6], value);
  message.insert(message.end(), text.begin(), text.end());
  control_out_.push_back(std::move(message));
}

void VirtioConsole::flush_control() {
  Queue& queue = queue_at(kControlReceive);
  while (!control_out_.empty()) {
    auto chain = queue.pop();
    if (!chain) break;
    chain->add_written(chain->write(0, control_out_.front()));
    control_out_.pop_front();
  }
  queue.notify();
}

void VirtioConsole::host_changed(u32 number, bool connected) {
  Port* port = find(number);
  if (!port || port->options.console || port->host_open == connected) return;
  port->host_open = connected;
  if (!running() || !multiport()) return;
  refresh_memory();
  send_control(number, kPortOpen, connected);
  flush_control();
}

/// Emergency write: one character to port 0, before or without a driver (5.3.4.1).
void VirtioConsole::config_written(u32 offset, u32) {
  Port* port = find(0);
  if (offset != kEmergencyWrite || !port || !port->options.backend) return;
  u8 character = static_cast<u8>(config_value<u32>(kEmergencyWrite));
  port->options.backend->write({&character, 1});
}

void VirtioConsole::visit(Archive& archive) {
  std::vector<u8> messages = pack(control_out_);
  archive.blob(1, "control_out", messages, kMaxControlMessages * kMaxControlBytes);
  if (archive.loading()) control_out_ = unpack(messages);
  archive.field(2, "driver_ready", driver_ready_);
  for (auto& port : ports_) {
    const u32 number = 16 + 2 * port->number;
    bool open = port->guest_open;
    archive.field(number, "guest_open", open);
    archive.field(number + 1, "sent", port->sent);
    if (archive.loading()) set_guest_open(*port, open);
  }
}

}  // namespace atl::devices
