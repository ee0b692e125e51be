// Transfers of the xHCI (4.9, 4.11): TDs of a ring, carried out packet by packet.
#include <algorithm>

#include "base/endian.h"
#include "devices/usb/xhci.h"

namespace atl::devices::usb {

using namespace xhci;

namespace {

constexpr unsigned kTransfersATurn = 256, kMaxTrbs = 1024;
constexpr u32 kMaxBytes = 16 * kMiB;
constexpr u32 kLengthMask = 0x1ffff;

bool has_data(u8 type) { return type == kNormal || type == kDataStage || type == kIsoch; }
u32 length_of(u8 type, u32 status) { return has_data(type) ? status & kLengthMask : 0; }

/// Even context indices are OUT endpoints, odd ones IN; 1 is endpoint 0.
bool is_in(unsigned index) { return index & 1; }

}  // namespace

/// Reads the TD at the endpoint's place without moving it. False: there is none yet.
bool Xhci::next_transfer(const Endpoint& endpoint, Transfer& transfer) {
  transfer.trbs.clear();
  transfer.bytes = 0;
  transfer.next = endpoint.dequeue;
  for (Trb trb; transfer.trbs.size() < kMaxTrbs;) {
    if (!fetch(transfer.next, trb)) return false;
    transfer.trbs.push_back(trb);
    transfer.bytes += length_of(trb.type(), trb.status);
    if (transfer.bytes > kMaxBytes) return false;
    if (!(trb.control & kChain)) return true;
  }
  return false;
}

void Xhci::run_endpoint(unsigned number, unsigned index) {
  Endpoint& endpoint = slots_[number].endpoints[index];
  endpoint.ready = endpoint.waiting = false;
  for (unsigned i = 0; i < kTransfersATurn; ++i) {
    Transfer transfer;
    if (endpoint.state != kEndpointRunning || !next_transfer(endpoint, transfer)) return;
    if (!carry_out(number, index, transfer)) {
      endpoint.waiting = true;
      return;
    }
  }
  endpoint.ready = true;  // more than its share: later
  device_woke();
}

bool Xhci::carry_out(unsigned number, unsigned index, Transfer& transfer) {
  Slot& slot = slots_[number];
  Endpoint& endpoint = slot.endpoints[index];
  UsbDevice* device = device_of(slot);
  Outcome outcome;
  Code code = Code::Success;
  if (!device) {
    code = Code::TransactionError;
  } else {
    outcome = move(*device, endpoint, index, transfer);
    if (outcome.status == Answer::Nak) return false;
    if (outcome.status == Answer::Stall) code = Code::Stall;
    if (outcome.status == Answer::Babble) code = Code::Babble;
  }
  report(number, index, transfer, code);
  endpoint.done = 0;
  if (code == Code::Success) {
    endpoint.dequeue = transfer.next;
  } else {
    endpoint.state = kEndpointHalted;
  }
  store_endpoint(slot, index);
  return true;
}

/// Moves what the TD asks for; endpoint.done counts over several tries.
Outcome Xhci::move(UsbDevice& device, Endpoint& endpoint, unsigned index, const Transfer& transfer) {
  u32& done = endpoint.done;
  const Trb& first = transfer.trbs.front();
  const bool control = index == 1;
  if (control && first.type() == kSetupStage) {
    std::array<u8, 8> bytes;
    store_le<u64>(bytes.data(), first.parameter);
    return device.setup(bytes);
  }
  if (first.type() == kNoOp || (first.type() == kEventData && transfer.bytes == 0)) return {};
  const u8 endpoint_number = static_cast<u8>(index / 2);
  const bool in = control ? (first.control & kDirectionBit) != 0 : is_in(index);
  if (control && first.type() == kStatusStage) return in ? device.in(0, {}) : device.out(0, {});
  const u32 packet = std::max<u32>(endpoint.packet_bytes & 0x7ff, 8);
  do {
    const u32 part = std::min(packet, transfer.bytes - done);
    buffer_.resize(part);
    if (!in) copy(transfer, done, buffer_, false);
    const Outcome outcome = in ? device.in(endpoint_number, buffer_) : device.out(endpoint_number, buffer_);
    if (outcome.status != Answer::Ok) return outcome;
    if (in) copy(transfer, done, std::span(buffer_).first(outcome.bytes), true);
    done += static_cast<u32>(outcome.bytes);
    if (outcome.bytes < part) break;  // a short packet ends the TD
  } while (done < transfer.bytes);
  return {};
}

/// Between `buffer` and the TD's memory from `offset` on.
bool Xhci::copy(const Transfer& transfer, u32 offset, std::span<u8> buffer, bool to_guest) {
  for (const Trb& trb : transfer.trbs) {
    const u32 length = length_of(trb.type(), trb.status);
    if (offset >= length) {
      offset -= length;
      continue;
    }
    if (buffer.empty()) break;
    const u32 part = std::min<u32>(length - offset, static_cast<u32>(buffer.size()));
    const std::span<u8> piece = buffer.first(part);
    if (trb.control & kImmediate) {
      std::array<u8, 8> bytes;
      store_le<u64>(bytes.data(), trb.parameter);
      for (u32 i = 0; i < part && !to_guest; ++i) piece[i] = offset + i < 8 ? bytes[offset + i] : u8{0};
    } else if (to_guest) {
      dma_.write(trb.parameter + offset, piece);
    } else {
      dma_.read(trb.parameter + offset, piece);
    }
    buffer = buffer.subspan(part);
    offset = 0;
  }
  return buffer.empty();
}

/// The events of a TD (4.10.1): of the TRB in which it ended, and of those that ask for one.
void Xhci::report(unsigned number, unsigned index, const Transfer& transfer, Code code) {
  const Slot& slot = slots_[number];
  u32 left = slot.endpoints[index].done, event_bytes = 0;
  bool is_short = false, reported = false;
  for (const Trb& trb : transfer.trbs) {
    const u32 length = length_of(trb.type(), trb.status), moved = std::min(length, left);
    left -= moved;
    event_bytes += moved;
    if (moved < length && code == Code::Success) is_short = true;
    const bool last = &trb == &transfer.trbs.back();
    const bool failed_here = code != Code::Success && (moved < length || (left == 0 && !has_data(trb.type())) || last);
    const bool wants = (trb.control & kIoc) || (is_short && (trb.control & kShortInterrupt));
    if (!failed_here && (reported || !wants)) continue;
    Event event = {.type = kTransferEvent, .code = code == Code::Success && is_short ? Code::ShortPacket : code, .pointer = trb.at,
                   .length = length - moved, .slot = static_cast<u8>(number), .endpoint = static_cast<u8>(index)};
    if (trb.type() == kEventData) {
      event.pointer = trb.parameter;
      event.length = event_bytes;
      event.event_data = true;
      event_bytes = 0;
    }
    send_event(event, trb.status >> 22);
    reported = true;
    if (failed_here) return;
  }
}

}  // namespace atl::devices::usb
