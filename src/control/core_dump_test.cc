#include "control/core_dump.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

namespace atl::control {
namespace {

std::shared_ptr<memory::RamBlock> block(const char* name, u64 size_bytes) { return MUST(memory::RamBlock::create(name, size_bytes, {})); }

class CoreDumpTest : public testing::Test {
 protected:
  CoreDumpTest() {
    low_->data()[0] = 0x11;
    high_->data()[4095] = 0x22;
    state_.rip = 0x1234;
    state_.gpr[cpu::kRax] = 0x55;
    state_.cr3 = 0x9000;
  }
  DumpProgress progress_;
  /// The file's bytes.
  std::vector<u8> dump(DumpRange range = {}) {
    Fd file(::memfd_create("dump", MFD_CLOEXEC));
    EXPECT_TRUE(write_core_dump(file, memory_, {&state_, 1}, range, progress_));
    std::vector<u8> bytes(static_cast<size_t>(::lseek(file.get(), 0, SEEK_END)));
    EXPECT_EQ(::pread(file.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    return bytes;
  }
  template <class T>
  static T at(const std::vector<u8>& bytes, u64 offset) {
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
  }
  static Elf64_Phdr segment(const std::vector<u8>& bytes, u64 index) {
    return at<Elf64_Phdr>(bytes, sizeof(Elf64_Ehdr) + index * sizeof(Elf64_Phdr));
  }

  std::shared_ptr<memory::RamBlock> low_ = block("low", 64 * kKiB);
  std::shared_ptr<memory::RamBlock> high_ = block("high", 4 * kKiB);
  std::shared_ptr<memory::RamBlock> rom_ = block("rom", 4 * kKiB);
  memory::GuestMemory memory_{{{.base = 0, .size = 64 * kKiB, .block = low_},
                               {.base = 0xf0000, .size = 4 * kKiB, .block = rom_, .readonly = true},
                               {.base = 0x100000, .size = 4 * kKiB, .block = high_}}};
  cpu::VcpuState state_;
};

TEST_F(CoreDumpTest, HoldsEachStretchOfRamAndNoRom) {
  const auto bytes = dump();
  ASSERT_EQ(at<Elf64_Ehdr>(bytes, 0).e_phnum, 3);
  const Elf64_Phdr low = segment(bytes, 1), high = segment(bytes, 2);
  EXPECT_EQ(low.p_paddr, 0u);
  EXPECT_EQ(low.p_filesz, 64 * kKiB);
  EXPECT_EQ(bytes[low.p_offset], 0x11);
  EXPECT_EQ(high.p_paddr, 0x100000u);
  EXPECT_EQ(bytes[high.p_offset + 4095], 0x22);
  EXPECT_EQ(bytes.size(), high.p_offset + high.p_filesz);
}

TEST_F(CoreDumpTest, NotesTellTheRegisters) {
  const auto bytes = dump();
  const u64 note = segment(bytes, 0).p_offset, body = note + sizeof(Elf64_Nhdr) + 8;
  EXPECT_EQ(at<Elf64_Nhdr>(bytes, note).n_type, static_cast<u32>(NT_PRSTATUS));
  EXPECT_EQ(at<u64>(bytes, body + 112 + 10 * 8), 0x55u);    // rax
  EXPECT_EQ(at<u64>(bytes, body + 112 + 16 * 8), 0x1234u);  // rip
  const u64 more = body + 336 + sizeof(Elf64_Nhdr) + 8;
  EXPECT_EQ(at<u64>(bytes, more + 392 + 3 * 8), 0x9000u);   // cr3
}

TEST_F(CoreDumpTest, RangeCutsAtBothEnds) {
  const auto bytes = dump({.first = 0x1000, .size_bytes = 0x2000});
  ASSERT_EQ(at<Elf64_Ehdr>(bytes, 0).e_phnum, 2);
  EXPECT_EQ(segment(bytes, 1).p_paddr, 0x1000u);
  EXPECT_EQ(segment(bytes, 1).p_filesz, 0x2000u);
}

TEST_F(CoreDumpTest, RangeWithoutMemoryIsRefused) {
  Fd file(::memfd_create("dump", MFD_CLOEXEC));
  EXPECT_FALSE(write_core_dump(file, memory_, {&state_, 1}, {.first = 0x20000, .size_bytes = 0x1000}, progress_));
}

}  // namespace
}  // namespace atl::control
