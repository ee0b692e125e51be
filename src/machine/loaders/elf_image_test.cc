#include "machine/loaders/elf_image.h"

#include <elf.h>
#include <gmock/gmock.h>

#include "machine/loaders/loader_fixture.h"

namespace atl::machine {
namespace {

using testing::HasSubstr;

class ElfImageTest : public LoaderTest {
 protected:
  /// One PT_LOAD of 16 bytes at 2 MiB (32 in memory), and a PT_NOTE with a PVH entry if `pvh` is not 0.
  static std::vector<u8> image(u32 pvh) {
    std::vector<u8> out(0x200);
    Elf64_Ehdr e{};
    std::memcpy(e.e_ident, ELFMAG, SELFMAG);
    e.e_ident[EI_CLASS] = ELFCLASS64;
    e.e_ident[EI_DATA] = ELFDATA2LSB;
    e.e_type = ET_EXEC;
    e.e_machine = EM_X86_64;
    e.e_entry = 0xffffffff80200004;
    e.e_phoff = 64;
    e.e_phentsize = sizeof(Elf64_Phdr);
    e.e_phnum = 2;
    const Elf64_Phdr load = {PT_LOAD, 5, 0x100, 0xffffffff80200000, 0x200000, 16, 32, 4096};
    const Elf64_Phdr note = {pvh ? u32{PT_NOTE} : u32{PT_NULL}, 4, 0x180, 0, 0, 20, 20, 4};
    std::memcpy(&out[0], &e, sizeof e);
    std::memcpy(&out[64], &load, sizeof load);
    std::memcpy(&out[64 + sizeof load], &note, sizeof note);
    std::fill(&out[0x100], &out[0x110], u8{0xf4});
    store_le<u32>(&out[0x180], 4);
    store_le<u32>(&out[0x184], 4);
    store_le<u32>(&out[0x188], 18);
    std::memcpy(&out[0x18c], "Xen", 4);
    store_le(&out[0x190], pvh);
    return out;
  }
};

TEST_F(ElfImageTest, PvhNoteGivesA32BitEntryWithStartInformation) {
  const BootEntry entry = MUST(load({.kernel = file(image(0x200008)), .append = "x"}));  // a good image
  EXPECT_EQ(entry.mode, BootEntry::Mode::Protected32);
  EXPECT_EQ(entry.ip, 0x200008u);
  EXPECT_EQ(entry.ebx, kBootInfo);
  EXPECT_EQ(peek<u32>(kBootInfo), 0x336ec578u);
  EXPECT_EQ(peek<u64>(kBootInfo + 32), 0xe0000u);
  EXPECT_EQ(peek<u32>(kBootInfo + 48), 4u);
}

TEST_F(ElfImageTest, PlainElf64IsEnteredInLongModeAtItsPhysicalAddress) {
  std::fill(ram->data() + 0x200000, ram->data() + 0x200020, u8{0xee});
  const BootEntry entry = MUST(load({.kernel = file(image(0))}));  // a good image
  EXPECT_EQ(entry.mode, BootEntry::Mode::Long64);
  EXPECT_EQ(entry.ip, 0x200004u);
  EXPECT_EQ(peek<u8>(0x20000f), 0xf4);
  EXPECT_EQ(peek<u8>(0x200010), 0);
}

TEST_F(ElfImageTest, DamagedHeadersAreRefusedByName) {
  std::vector<u8> bad = image(0);
  store_le<u64>(&bad[64 + 8], 0x10000);  // segment past the file's end
  std::string path = file(bad);
  EXPECT_THAT(failure({.kernel = path}), testing::AllOf(HasSubstr(path), HasSubstr("truncated or damaged")));
  bad = image(0);
  store_le<u64>(&bad[64 + 40], ~u64{0});  // memory size overflows
  EXPECT_THAT(failure({.kernel = file(bad)}), HasSubstr("damaged"));
  bad = image(0);
  store_le<u64>(&bad[64 + 24], 0x80000000);  // outside RAM
  EXPECT_THAT(failure({.kernel = file(bad)}), HasSubstr("guest memory"));
  bad = image(0);
  store_le<u16>(&bad[18], 40);
  EXPECT_THAT(failure({.kernel = file(bad)}), HasSubstr("machine 40"));
  bad = image(0);
  store_le<u16>(&bad[56], 0xffff);
  EXPECT_THAT(failure({.kernel = file(bad)}), HasSubstr("program headers"));
}

TEST_F(ElfImageTest, EveryTruncationIsAnError) {
  const std::vector<u8> whole = image(0x200008);
  for (size_t size = 4; size < 0x110; size += 7) {
    EXPECT_NE(failure({.kernel = file({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)})}), "") << size;
  }
}

}  // namespace
}  // namespace atl::machine
