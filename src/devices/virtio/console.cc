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
constexpr u32 kMaxPorts = 4, kEmergencyWrite = 8, kConfigBytes = 12;

constexpr u16 kQueueSize = 128;
constexpr u16 kControlReceive = 2, kControlTransmit = 3;
constexpr size_t kInputBytes = 4096;
constexpr size_t kMaxControlMessages = 256;  // for a driver that asks and never takes the answers
constexpr u64 kMaxControlBytes = 512;        // a message with the name of a port
constexpr u32 kPortLimit = 511;

// Control messages (5.3.6.2): port, event, value.
constexpr size_t kControlBytes = 8;
enum Event : u16 {
  kDeviceReady = 0,
  kPortAdd = 1,
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

u32 port_count(const VirtioConsoleOptions& options) {
  u32 count = 1;
  for (const VirtioConsolePort& port : options.ports) count = std::max(count, port.number + 1);
  return count;
}

VirtioDevice::Shape shape_of(const VirtioConsoleOptions& options) {
  size_t queues = options.multiport ? 2 + 2 * port_count(options) : 2;
  return {.device_id = virtio::kIdConsole,
          .features = kFeatureEmergencyWrite | (options.multiport ? kFeatureMultiport : 0),
          .queue_sizes = std::vector<u16>(queues, kQueueSize),
          .config_bytes = kConfigBytes};
}

Status check(const VirtioConsoleOptions& options) {
  std::vector<bool> taken(kPortLimit);
  for (const VirtioConsolePort& port : options.ports) {
    auto fault = [&](const char* why) {
      return Error(ErrorKind::Invalid, fmt::format("virtio console port {}: {}", port.number, why));
    };
    if (port.number >= std::min(options.max_ports, kPortLimit)) return fault("the number is too high");
    if (taken[port.number]) return fault("there are two of them");
    if (port.name.size() > kMaxControlBytes - kControlBytes - 2) return fault("the name is too long");
    if (!options.multiport && (port.number != 0 || !port.console || !port.name.empty()))
      return fault("without multiport there is only a console as port 0");
    taken[port.number] = true;
  }
  return {};
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
  std::shared_ptr<Input> input = std::make_shared<Input>();
  bool guest_open = false;
  bool host_open = false;
  u64 sent = 0;  // bytes of the chain at the head of the transmit queue that the back end has taken
};

VirtioConsole::VirtioConsole(VirtioConsoleOptions options, Loop& loop, memory::AddressSpace& memory)
    : VirtioDevice(shape_of(options), loop, memory) {
  std::array<u8, 4> count{};
  store_le<u32>(count.data(), port_count(options));
  set_config(kMaxPorts, count);
  set_config_writable(kEmergencyWrite, 4);
  for (const VirtioConsolePort& port : options.ports) add_port(port);
}

Result<std::unique_ptr<VirtioConsole>> VirtioConsole::create(VirtioConsoleOptions options, Loop& loop,
                                                             memory::AddressSpace& memory) {
  TRY(check(options));
  return std::unique_ptr<VirtioConsole>(new VirtioConsole(std::move(options), loop, memory));
}

VirtioConsole::~VirtioConsole() {
  for (auto& port : ports_) {
    if (port->options.backend) port->options.backend->detach();
    Lock lock(port->input->mutex);
    port->input->device = nullptr;
  }
}

void VirtioConsole::add_port(const VirtioConsolePort& options) {
  auto port = std::make_unique<Port>();
  port->options = options;
  port->host_open = options.console;
  {
    Lock lock(port->input->mutex);
    port->input->device = this;
    port->input->port = options.number;
  }
  auto input = port->input;
  ports_.push_back(std::move(port));
  if (options.backend) options.backend->attach(frontend_of(input));
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
        on_device([open](VirtioConsole& device, Port& port) { device.host_changed(port.options.number, open); });
      },
      .writable = [on_device] {
        on_device([](VirtioConsole& device, Port& port) { device.serve_later(transmit_queue(port.options.number)); });
      },
  };
}

VirtioConsole::Port* VirtioConsole::find(u32 number) {
  for (auto& port : ports_)
    if (port->options.number == number) return port.get();
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
  for (auto& port : ports_) {
    if (port->guest_open) tell_guest_open(*port, false);
    port->guest_open = false;
    port->sent = 0;
    Lock lock(port->input->mutex);
    port->input->guest_open = false;
    port->input->bytes.clear();
  }
}

/// Who waits for a serial port of the guest hears of it; a console always listens.
void VirtioConsole::tell_guest_open(const Port& port, bool open) {
  if (port.options.console) return;
  if (port.options.backend) port.options.backend->set_frontend_open(open);
  if (port.options.on_guest_open) port.options.on_guest_open(open);
}

void VirtioConsole::set_guest_open(Port& port, bool open) {
  if (port.guest_open != open) tell_guest_open(port, open);
  port.guest_open = open;
  {
    Lock lock(port.input->mutex);
    port.input->guest_open = open;
    if (!open) port.input->bytes.clear();
  }
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
  Queue& queue = queue_at(transmit_queue(port.options.number));
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
  Queue& queue = queue_at(receive_queue(port.options.number));
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
  if (event == kDeviceReady && value == 1)
    for (auto& port : ports_) send_control(port->options.number, kPortAdd, 1);
  Port* port = find(number);
  if (!port) return;
  if (event == kPortReady && value == 1) announce(*port);
  if (event == kPortOpen) set_guest_open(*port, value != 0);
}

void VirtioConsole::announce(Port& port) {
  u32 number = port.options.number;
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
  u32 number = 16;
  for (auto& port : ports_) {
    bool open = port->guest_open;
    archive.field(number++, "guest_open", open);
    archive.field(number++, "sent", port->sent);
    if (archive.loading()) set_guest_open(*port, open);
  }
}

}  // namespace atl::devices
