// Tables that are added as they are: those of -acpitable, files with a whole table, or raw data under a header made here (ACPI 6.4, 5.2.6),
// and the TPM's.
#include <array>
#include <numeric>

#include <fmt/core.h>

#include "base/endian.h"
#include "base/strings.h"
#include "machine/acpi/tables.h"
#include "machine/loaders/boot_file.h"

namespace atl::machine {
namespace {

constexpr size_t kHeaderBytes = 36, kLength = 4, kChecksum = 9;
constexpr u64 kMaxBytes = 64 * kKiB;

/// A field of the header by -acpitable's name: text, or a number where `number` is set.
struct HeaderField {
  std::string_view name;
  size_t offset, bytes;
  bool number;
};
constexpr HeaderField kFields[] = {
    {"sig", 0, 4, false},       {"rev", 8, 1, true},          {"oem_id", 10, 6, false},          {"oem_table_id", 16, 8, false},
    {"oem_rev", 24, 4, true},   {"asl_compiler_id", 28, 4, false}, {"asl_compiler_rev", 32, 4, true},
};

Status set_field(std::vector<u8>& table, const HeaderField& field, const std::string& value) {
  u8* at = &table[field.offset];
  if (!field.number) {
    if (value.size() > field.bytes) return Error(ErrorKind::Invalid, fmt::format("-acpitable: '{}' has more than {} characters", field.name, field.bytes));
    std::fill_n(at, field.bytes, u8{0});
    std::ranges::copy(value, at);
    return {};
  }
  const auto number = parse_u64(value);
  if (!number || *number >> (8 * field.bytes)) return Error(ErrorKind::Invalid, fmt::format("-acpitable: '{}' is not a number that fits '{}'", value, field.name));
  store_le_n(at, *number, static_cast<unsigned>(field.bytes));
  return {};
}

/// Length and checksum.
void finish(std::vector<u8>& table) {
  store_le(&table[kLength], static_cast<u32>(table.size()));
  table[kChecksum] = 0;
  table[kChecksum] = static_cast<u8>(-std::accumulate(table.begin(), table.end(), 0));
}

Result<std::vector<u8>> load(const AcpiTableConfig& config) {
  std::vector<u8> table(config.has_header ? 0 : kHeaderBytes);
  if (!config.has_header) {
    table[8] = 1;
    std::ranges::copy(std::string_view("ATOLL ATOLLVM "), table.begin() + 10);
  }
  for (const std::string& path : config.files) {
    const BootFile file = TRY(BootFile::open("ACPI table", path));
    if (file.size() + table.size() > kMaxBytes) return file.error("is larger than 64 KiB");
    const std::vector<u8> data = TRY(file.bytes(0, file.size()));
    table.insert(table.end(), data.begin(), data.end());
  }
  if (table.size() < kHeaderBytes) return Error(ErrorKind::Invalid, fmt::format("ACPI table {}: shorter than a header", config.files[0]));
  for (const HeaderField& field : kFields) {
    for (const auto& [name, value] : config.header) {
      if (name == field.name) TRY(set_field(table, field, value));
    }
  }
  finish(table);
  return table;
}

}  // namespace

std::vector<u8> tpm2_table(u64 control_area) {
  const u32 start_method = control_area ? 7 : 6;  // CRB, or the FIFO's registers
  std::vector<u8> table(52);
  std::ranges::copy(std::string_view("TPM2"), table.begin());
  table[8] = 4;
  std::ranges::copy(std::string_view("ATOLL ATOLLVM "), table.begin() + 10);
  store_le(&table[40], control_area);
  store_le(&table[48], start_method);
  finish(table);
  return table;
}

Result<std::vector<std::vector<u8>>> load_acpi_tables(const std::vector<AcpiTableConfig>& tables) {
  std::vector<std::vector<u8>> out;
  for (const AcpiTableConfig& table : tables) out.push_back(TRY(load(table)));
  return out;
}

}  // namespace atl::machine
