// What a unit says of itself: INQUIRY (SPC-4, 6.6), its vital product data pages (7.8), REPORT LUNS, REQUEST SENSE.
#include <algorithm>
#include <bit>

#include "base/endian.h"
#include "devices/storage/scsi_unit.h"

namespace atl::devices {

using namespace scsi;

namespace {

constexpr u8 kVersionSpc3 = 0x05;
constexpr u8 kPageSupported = 0x00, kPageSerial = 0x80, kPageIdentification = 0x83, kPageBlockLimits = 0xb0,
             kPageCharacteristics = 0xb1, kPageProvisioning = 0xb2;
constexpr u32 kMaxUnmapBlocks = 0x3fffff;
constexpr u32 kMaxTransferBlocks = 0xffff;

/// Text left-aligned in a field of spaces.
void put_text(std::span<u8> field, std::string_view text) {
  std::ranges::fill(field, u8{' '});
  std::copy_n(text.begin(), std::min(text.size(), field.size()), field.begin());
}

std::vector<u8> page(u8 type, u8 code, const std::vector<u8>& body) {
  std::vector<u8> out(4 + body.size());
  out[0] = type;
  out[1] = code;
  store_be<u16>(&out[2], static_cast<u16>(body.size()));
  std::ranges::copy(body, out.begin() + 4);
  return out;
}

}  // namespace

std::vector<u8> ScsiUnit::standard_inquiry() const {
  std::vector<u8> out(36);
  out[0] = is_cd() ? 0x05 : 0x00;
  out[1] = is_removable() ? 0x80 : 0x00;
  out[2] = options_.atapi ? 0x00 : kVersionSpc3;
  out[3] = options_.atapi ? 0x21 : 0x02;  // response format 2; ATAPI drives say "2" in the upper half
  out[4] = static_cast<u8>(out.size() - 5);
  out[7] = options_.atapi ? 0 : 0x02;     // command queuing
  put_text(std::span(out).subspan(8, 8), options_.vendor);
  put_text(std::span(out).subspan(16, 16), options_.product);
  put_text(std::span(out).subspan(32, 4), options_.version);
  return out;
}

/// SPC-4, 7.8.5: the serial number as a vendor's identifier, and the NAA name if there is one.
std::vector<u8> ScsiUnit::device_identification() const {
  constexpr size_t kHeader = 4, kNameBytes = 8;
  const std::string& id = options_.device_id.empty() ? options_.serial : options_.device_id;
  const size_t serial = std::min<size_t>(id.size(), 64);
  const size_t first = serial ? kHeader + serial : 0, second = options_.wwn ? kHeader + kNameBytes : 0;
  std::vector<u8> out(first + second);
  if (first) {
    out[0] = 0x02;
    out[3] = static_cast<u8>(serial);
    std::copy_n(id.begin(), serial, &out[kHeader]);
  }
  if (second) {
    out[first] = 0x01;
    out[first + 1] = 0x03;
    out[first + 3] = kNameBytes;
    store_be<u64>(&out[first + kHeader], options_.wwn);
  }
  return out;
}

/// SBC-3, 6.5.3.
std::vector<u8> ScsiUnit::block_limits() const {
  std::vector<u8> out(0x3c);
  out[0] = 0x01;  // WRITE SAME of zero blocks is refused
  store_be<u32>(&out[4], kMaxTransferBlocks);
  if (options_.discard && !options_.readonly) {
    store_be<u32>(&out[16], kMaxUnmapBlocks);
    store_be<u32>(&out[20], 255);  // descriptors
    store_be<u32>(&out[24], std::max(1u, options_.physical_block_bytes / options_.block_bytes));
  }
  store_be<u64>(&out[32], kMaxUnmapBlocks);
  return out;
}

std::optional<std::vector<u8>> ScsiUnit::vital_page(u8 code) const {
  const u8 type = is_cd() ? 0x05 : 0x00;
  switch (code) {
    case kPageSupported: {
      std::vector<u8> list;
      for (u8 known : {kPageSupported, kPageSerial, kPageIdentification, kPageBlockLimits, kPageCharacteristics, kPageProvisioning})
        if (known == kPageSupported || vital_page(known)) list.push_back(known);
      return page(type, code, list);
    }
    case kPageSerial:
      if (options_.serial.empty()) return std::nullopt;
      return page(type, code, {options_.serial.begin(), options_.serial.begin() + static_cast<std::ptrdiff_t>(std::min<size_t>(options_.serial.size(), 36))});
    case kPageIdentification: return page(type, code, device_identification());
    default: break;
  }
  if (is_cd()) return std::nullopt;
  switch (code) {
    case kPageBlockLimits: return page(type, code, block_limits());
    case kPageCharacteristics: {
      std::vector<u8> body(0x3c);
      return page(type, code, body);  // rotation rate: not reported
    }
    case kPageProvisioning: {
      const bool thin = options_.discard && !options_.readonly;
      const u8 commands = thin ? 0xe0 : 0x00;  // UNMAP, WRITE SAME 16 and 10
      return page(type, code, {0, commands, static_cast<u8>(thin ? 2 : 1), 0});
    }
    default: return std::nullopt;
  }
}

void ScsiUnit::inquiry(Command& command) {
  const u16 allocation = load_be<u16>(&command.cdb[3]);
  if (!(command.cdb[1] & 1)) {
    if (command.cdb[2]) return command.fail(kInvalidField);
    return command.reply(standard_inquiry(), allocation);
  }
  auto answer = vital_page(command.cdb[2]);
  if (!answer) return command.fail(kInvalidField);
  command.reply(std::move(*answer), allocation);
}

void ScsiUnit::request_sense(Command& command) {
  const Sense sense = attention_ ? *std::exchange(attention_, std::nullopt) : std::exchange(sense_, kNoSense);
  const auto fixed = fixed_sense(sense);
  command.reply({fixed.begin(), fixed.end()}, command.cdb[4]);
}

/// This unit alone; transports with several answer themselves.
void ScsiUnit::report_luns(Command& command) {
  std::vector<u8> out(16);
  store_be<u32>(&out[0], 8);
  command.reply(std::move(out), load_be<u32>(&command.cdb[6]));
}

/// SBC-3, 5.15.
void ScsiUnit::read_capacity10(Command& command) {
  if (blocks() == 0) return command.fail(kNotReadyNoMedium);
  std::vector<u8> out(8);
  store_be<u32>(&out[0], static_cast<u32>(std::min<u64>(blocks() - 1, 0xffffffff)));
  store_be<u32>(&out[4], block_bytes());
  command.reply(std::move(out), 8);
}

/// READ CAPACITY(16), SBC-3, 5.16, is the one service action here.
void ScsiUnit::service_action_in(Command& command) {
  if ((command.cdb[1] & 0x1f) != 0x10) return command.fail(kInvalidField);
  if (blocks() == 0) return command.fail(kNotReadyNoMedium);
  std::vector<u8> out(32);
  store_be<u64>(&out[0], blocks() - 1);
  store_be<u32>(&out[8], block_bytes());
  if (!is_cd()) {
    out[13] = static_cast<u8>(std::countr_zero(std::max(1u, options_.physical_block_bytes / options_.block_bytes)));
    if (options_.discard && !options_.readonly) out[14] = 0x80;  // thin provisioning
  }
  command.reply(std::move(out), load_be<u32>(&command.cdb[10]));
}

}  // namespace atl::devices
