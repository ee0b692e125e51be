// Commands of the xHCI (4.6): slots, addresses, endpoints. Contexts lie in guest memory (6.2).
#include <algorithm>

#include "base/endian.h"
#include "devices/usb/xhci.h"

namespace atl::devices::usb {

using namespace xhci;

namespace {

constexpr unsigned kCommandsATurn = 64;
constexpr unsigned kRouteTiers = 5;

u32 input_at(unsigned index) { return (index + 1) * kContextBytes; }  // behind the input control context

}  // namespace

u32 Xhci::read_context(u64 at, unsigned dword) {
  u32 value = 0;
  dma_.read_object(at + dword * 4, value);
  return value;
}

void Xhci::write_context(u64 at, unsigned dword, u32 value) { dma_.write_object(at + dword * 4, value); }

/// The next TRB, over links. False: the ring is empty.
bool Xhci::fetch(Cursor& cursor, Trb& trb) {
  constexpr unsigned kMaxLinks = 32;
  for (unsigned links = 0; links < kMaxLinks; ++links) {
    std::array<u8, kTrbBytes> raw;
    if (!dma_.read(cursor.at, raw)) return false;
    trb = {load_le<u64>(&raw[0]), load_le<u32>(&raw[8]), load_le<u32>(&raw[12]), cursor.at};
    if (((trb.control & kCycle) != 0) != cursor.cycle) return false;
    if (trb.type() != kLink) {
      cursor.at += kTrbBytes;
      return true;
    }
    cursor.at = trb.parameter & ~u64{15};
    if (trb.control & kToggleCycle) cursor.cycle = !cursor.cycle;
  }
  return false;
}

/// On the loop: everything that rang or woke.
void Xhci::work() {
  Lock lock(bus_->mutex());
  if (paused_) return;
  wake_ports();
  if (!(command_ & kRun)) return deliver_signals();
  run_commands();
  for (unsigned slot = 1; slot <= kSlots; ++slot) {
    if (!slots_[slot].enabled) continue;
    for (unsigned index = 1; index < kEndpoints; ++index) {
      Endpoint& endpoint = slots_[slot].endpoints[index];
      if ((endpoint.ready || endpoint.waiting) && endpoint.state == kEndpointRunning) run_endpoint(slot, index);
    }
  }
  deliver_signals();
}

void Xhci::run_commands() {
  if (!std::exchange(commands_ready_, false)) return;
  Trb trb;
  for (unsigned i = 0; i < kCommandsATurn; ++i) {
    if (!fetch(command_ring_, trb)) return;
    u8 slot = static_cast<u8>(trb.control >> 24);
    const Code code = run_command(trb, slot);
    send_event({.type = kCompletionEvent, .code = code, .pointer = trb.at, .slot = slot}, 0);
  }
  commands_ready_ = true;
  device_woke();
}

Code Xhci::run_command(const Trb& trb, u8& number) {
  if (trb.type() == kNoOpCommand) return Code::Success;
  if (trb.type() == kEnableSlot) return enable_slot(number);
  if (number == 0 || number > kSlots) return Code::TrbError;
  Slot& slot = slots_[number];
  if (!slot.enabled) return Code::SlotNotEnabled;
  switch (trb.type()) {
    case kDisableSlot: return disable_slot(slot);
    case kAddressDevice: return address_device(number, trb);
    case kConfigureEndpoint: return configure_endpoints(number, trb);
    case kEvaluateContext: return evaluate_context(number, trb);
    case kResetEndpoint:
    case kStopEndpoint:
    case kSetDequeue: return change_endpoint(number, trb);
    case kResetDevice: return reset_device(number);
    default: return Code::TrbError;
  }
}

Code Xhci::enable_slot(u8& number) {
  for (u8 i = 1; i <= kSlots; ++i) {
    if (slots_[i].enabled) continue;
    slots_[i] = {};
    slots_[i].enabled = true;
    number = i;
    return Code::Success;
  }
  number = 0;
  return Code::NoSlots;
}

Code Xhci::disable_slot(Slot& slot) {
  slot = {};
  return Code::Success;
}

/// The device behind a slot: by root port, then by route, four bits a hub.
UsbDevice* Xhci::device_of(const Slot& slot) const {
  if (slot.root_port == 0 || slot.root_port > options_.usb2_ports) return nullptr;
  UsbDevice* device = ports_[slot.root_port - 1] & kEnabled ? bus_->at(slot.root_port - 1u) : nullptr;
  for (unsigned tier = 0; device && tier < kRouteTiers; ++tier) {
    const unsigned port = slot.route >> (4 * tier) & 15;
    if (port == 0) break;
    device = device->child(port);
  }
  return device;
}

bool Xhci::set_address(Slot& slot, u8 address) {
  UsbDevice* device = device_of(slot);
  if (!device) return false;
  const std::array<u8, 8> setup = {0, kSetAddress, address, 0, 0, 0, 0, 0};
  device->setup(setup);
  return device->in(0, {}).status == Answer::Ok;
}

void Xhci::open_endpoint(Slot& slot, unsigned index, std::span<const u8> context) {
  Endpoint& endpoint = slot.endpoints[index];
  endpoint = {};
  endpoint.kind = static_cast<u8>(load_le<u32>(&context[4]) >> 3 & 7);
  endpoint.packet_bytes = static_cast<u16>(load_le<u32>(&context[4]) >> 16);
  const u64 ring = load_le<u64>(&context[8]);
  endpoint.dequeue = {ring & ~u64{15}, (ring & 1) != 0};
  endpoint.state = kEndpointRunning;
  const u64 at = slot.context + index * kContextBytes;
  dma_.write(at, context);
  write_context(at, 0, (load_le<u32>(&context[0]) & ~7u) | kEndpointRunning);
}

void Xhci::close_endpoint(Slot& slot, unsigned index) {
  slot.endpoints[index] = {};
  const u64 at = slot.context + index * kContextBytes;
  write_context(at, 0, read_context(at, 0) & ~7u);
}

/// State and place in the ring, as the driver sees them.
void Xhci::store_endpoint(const Slot& slot, unsigned index) {
  const Endpoint& endpoint = slot.endpoints[index];
  const u64 at = slot.context + index * kContextBytes;
  write_context(at, 0, (read_context(at, 0) & ~7u) | endpoint.state);
  dma_.write_object(at + 8, endpoint.dequeue.at | (endpoint.dequeue.cycle ? 1 : 0));
}

Code Xhci::address_device(unsigned number, const Trb& trb) {
  Slot& slot = slots_[number];
  const u64 input = trb.parameter & ~u64{15};
  std::array<u8, kContextBytes> slot_context{}, control{};
  if (!dma_.read(input, std::span(control).first(8)) || (load_le<u32>(&control[4]) & 3) != 3) return Code::TrbError;
  dma_.read(input + input_at(0), slot_context);
  std::array<u8, kContextBytes> endpoint{};
  dma_.read(input + input_at(1), endpoint);
  dma_.read_object(dcbaap_ + number * 8, slot.context);
  slot.context &= ~u64{63};
  slot.route = load_le<u32>(&slot_context[0]) & 0xfffff;
  slot.root_port = static_cast<u8>(load_le<u32>(&slot_context[4]) >> 16);
  slot.interrupter = static_cast<u16>(load_le<u32>(&slot_context[8]) >> 22);
  const bool block = trb.control & kBlockSetAddress;
  if (!device_of(slot) || (!block && !set_address(slot, static_cast<u8>(number)))) return Code::TransactionError;
  dma_.write(slot.context, slot_context);
  write_context(slot.context, 3, (block ? kSlotDefault : kSlotAddressed) << 27 | (block ? 0 : number));
  open_endpoint(slot, 1, endpoint);
  return Code::Success;
}

Code Xhci::configure_endpoints(unsigned number, const Trb& trb) {
  Slot& slot = slots_[number];
  const u32 state = read_context(slot.context, 3) >> 27;
  if (state < kSlotAddressed) return Code::ContextState;
  if (trb.control & kDeconfigure) {
    for (unsigned index = 2; index < kEndpoints; ++index) close_endpoint(slot, index);
    write_context(slot.context, 3, kSlotAddressed << 27 | (read_context(slot.context, 3) & 0xff));
    return Code::Success;
  }
  const u64 input = trb.parameter & ~u64{15};
  const u32 drop = read_context(input, 0), add = read_context(input, 1);
  if ((drop & 3) || !(add & 1)) return Code::TrbError;
  for (unsigned index = 2; index < kEndpoints; ++index) {
    if (drop >> index & 1) close_endpoint(slot, index);
    if (!(add >> index & 1)) continue;
    std::array<u8, kContextBytes> context{};
    dma_.read(input + input_at(index), context);
    open_endpoint(slot, index, context);
  }
  // Number of contexts and hub information come from the driver; address and state are ours.
  std::array<u8, 12> slot_context{};
  dma_.read(input + input_at(0), slot_context);
  dma_.write(slot.context, slot_context);
  slot.interrupter = static_cast<u16>(load_le<u32>(&slot_context[8]) >> 22);
  write_context(slot.context, 3, kSlotConfigured << 27 | (read_context(slot.context, 3) & 0xff));
  return Code::Success;
}

Code Xhci::evaluate_context(unsigned number, const Trb& trb) {
  Slot& slot = slots_[number];
  const u64 input = trb.parameter & ~u64{15};
  const u32 add = read_context(input, 1);
  if (add & 1) {
    const u32 latency = read_context(input + input_at(0), 1) & 0xffff, target = read_context(input + input_at(0), 2) & 0xffc00000;
    write_context(slot.context, 1, (read_context(slot.context, 1) & 0xffff0000) | latency);
    write_context(slot.context, 2, (read_context(slot.context, 2) & 0x003fffff) | target);
    slot.interrupter = static_cast<u16>(target >> 22);
  }
  if (add & 2) {
    const u64 at = slot.context + kContextBytes;
    const u32 packet = read_context(input + input_at(1), 1) & 0xffff0000;
    write_context(at, 1, (read_context(at, 1) & 0xffff) | packet);
    slot.endpoints[1].packet_bytes = static_cast<u16>(packet >> 16);
  }
  return Code::Success;
}

Code Xhci::reset_device(unsigned number) {
  Slot& slot = slots_[number];
  for (unsigned index = 2; index < kEndpoints; ++index) close_endpoint(slot, index);
  if (UsbDevice* device = device_of(slot)) device->bus_reset();
  write_context(slot.context, 3, kSlotDefault << 27);
  return Code::Success;
}

/// Reset Endpoint, Stop Endpoint, Set TR Dequeue Pointer.
Code Xhci::change_endpoint(unsigned number, const Trb& trb) {
  Slot& slot = slots_[number];
  const unsigned index = trb.control >> 16 & 31;
  if (index == 0) return Code::TrbError;
  Endpoint& endpoint = slot.endpoints[index];
  if (endpoint.state == kEndpointDisabled) return Code::EndpointNotEnabled;
  if (trb.type() == kResetEndpoint) {
    if (endpoint.state != kEndpointHalted) return Code::ContextState;
    endpoint.state = kEndpointStopped;
  } else if (trb.type() == kStopEndpoint) {
    if (endpoint.state != kEndpointRunning) return Code::ContextState;
    Transfer transfer;
    if (endpoint.waiting && next_transfer(endpoint, transfer)) report(number, index, transfer, Code::Stopped);
    endpoint.state = kEndpointStopped;
  } else {
    if (endpoint.state == kEndpointRunning) return Code::ContextState;
    if (trb.status >> 16) return Code::TrbError;  // a stream
    endpoint.dequeue = {trb.parameter & ~u64{15}, (trb.parameter & 1) != 0};
    endpoint.done = 0;
  }
  endpoint.ready = endpoint.waiting = false;
  store_endpoint(slot, index);
  return Code::Success;
}

}  // namespace atl::devices::usb
