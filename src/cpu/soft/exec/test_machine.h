// A machine for unit tests: one core, some RAM, ports, in 64-bit mode at CPL 0 with RAM mapped one to one.
#pragma once

#include <initializer_list>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "cpu/soft/direct/tier.h"
#include "cpu/soft/exec/block_cache.h"
#include "cpu/soft/exec/run.h"
#include "cpu/soft/soft_vm.h"
#include "cpu/soft/translate/core_memory.h"
#include "cpu/soft/translate/runtime.h"

namespace atl::soft {

class TestMachine {
 public:
  static constexpr u64 kRamSize = 16 * kMiB;
  static constexpr u64 kPageTables = 0x1000;  // PML4, PDPT and one PD of 2 MiB pages: present, writable, user; 1 GiB mapped
  static constexpr u64 kCode = 0x10000, kStack = 0x20000, kData = 0x30000;

  explicit TestMachine(const cpu::SoftOptions& translate = {}) : cpuid_(cpu::host_cpuid()) {
    add_ram();
    vm_.memory = &memory_;
    vm_.ports = &ports_;
    vm_.code.resize(kRamSize);
    core_ = allocate_core();
    core_->vm = &vm_;
    core_->cpuid = &cpuid_;
    core_->memory_bus = std::make_unique<memory::BusView>(memory_);
    core_->other_bus = std::make_unique<memory::BusView>(memory_, memory::View::Smm);
    core_->port_bus = std::make_unique<memory::BusView>(ports_);
    vm_.cores.push_back(core_.get());
    blocks_ = attach_block_cache(*core_);
    if (translate.translation != Translation::Off) add_translation(translate);
    build_page_tables();
    enter_long_mode();
  }

  Core& core() { return *core_; }
  SoftVm& vm() { return vm_; }
  memory::AddressSpace& memory() { return memory_; }
  memory::AddressSpace& ports() { return ports_; }
  translate::Runtime& runtime() { return *runtime_; }
  u8* ram() { return ram_->data(); }

  void load(GuestAddr at, std::span<const u8> bytes) { MUST(memory_.guest_memory()->load(at, bytes)); }  // in RAM
  /// Puts code at kCode and RIP on it.
  void code(std::initializer_list<u8> bytes) { code(std::vector<u8>(bytes)); }
  void code(const std::vector<u8>& bytes) {
    load(kCode, bytes);
    memory_.guest_memory()->wrote(kCode, bytes.size());
    vm_.code.wrote(kCode, bytes.size());
    core_->rip = kCode;
  }
  /// Runs `count` instructions; false at a triple fault.
  bool step(unsigned count = 1) {
    for (unsigned i = 0; i < count; ++i) {
      if (!step_one(*core_)) return false;
    }
    return true;
  }
  template <class T>
  T peek(GuestAddr at) {
    T value{};
    memory_.guest_memory()->read_object(at, value);
    return value;
  }
  template <class T>
  void poke(GuestAddr at, T value) {
    memory_.guest_memory()->write_object(at, value);
    vm_.code.wrote(at, sizeof value);
  }

  void enter_long_mode() {
    Core& c = *core_;
    c.cr0 = kCr0PE | kCr0MP | kCr0ET | kCr0NE | kCr0WP | kCr0PG;
    c.cr3 = kPageTables;
    c.cr4 = kCr4PAE | kCr4OSFXSR | kCr4OSXMMEXCPT | kCr4OSXSAVE;
    c.efer = kEferSCE | kEferLME | kEferLMA | kEferNXE;
    c.xcr0 = 7;
    for (Segment& s : c.seg) s = {.selector = 0x10, .attributes = 0xc093, .limit = 0xffffffff};
    c.seg[kCs] = {.selector = 8, .attributes = 0xa09b, .limit = 0xffffffff};
    c.tr = {.selector = 0x18, .attributes = 0x8b, .limit = 0x67};
    c.ldtr = {.unusable = true};
    c.gpr[kRsp] = kStack;
    update_mode(c);
  }
  /// Protected mode without paging; flat 32-bit segments.
  void enter_protected_mode() {
    Core& c = *core_;
    c.cr0 = kCr0PE | kCr0ET | kCr0NE;
    c.cr4 = kCr4OSFXSR | kCr4OSXMMEXCPT;
    c.efer = 0;
    for (Segment& s : c.seg) s = {.selector = 0x10, .attributes = 0xc093, .limit = 0xffffffff};
    c.seg[kCs] = {.selector = 8, .attributes = 0xc09b, .limit = 0xffffffff};
    update_mode(c);
  }
  /// Real mode with all segment bases 0.
  void enter_real_mode() {
    Core& c = *core_;
    c.cr0 = kCr0ET;
    c.cr4 = 0;
    c.efer = 0;
    for (Segment& s : c.seg) s = {.attributes = 0x93, .limit = 0xffff};
    c.idtr = {.limit = 0x3ff};
    update_mode(c);
  }
  /// As Linux has user code; interrupts are enabled. With a helper, which runs all of it.
  void enter_user_mode_like_linux() {
    Core& c = *core_;
    enter_user_mode();
    c.seg[kCs].selector = 0x33;
    c.seg[kSs].selector = 0x2b;
    for (SegReg s : {kDs, kEs, kFs, kGs}) c.seg[s] = {.unusable = true};
    c.cr4 |= kCr4FSGSBASE | kCr4OSXSAVE;
    c.other_flags |= kIF;
    update_mode(c);
  }
  Status add_direct() {
    direct_ = TRY(direct::Tier::create(*core_));
    core_->direct = direct_.get();
    direct_->set_always();
    return {};
  }
  direct::Tier& direct() { return *direct_; }
  /// CPL 3 in the current mode.
  void enter_user_mode() {
    Core& c = *core_;
    for (Segment& s : c.seg) {
      s.selector |= 3;
      s.attributes |= 0x60;
    }
    update_mode(c);
  }

 private:
  void add_ram() {
    ram_ = MUST(memory::RamBlock::create("ram", kRamSize, {.backing = memory::RamOptions::Backing::Memfd, .shared = true}));  // 16 MiB; a test host without them cannot go on
    MUST(memory_.add({.name = "ram", .size = kRamSize, .ram = ram_}));  // the space is empty
  }
  void add_translation(const cpu::SoftOptions& options) {
    translations_ = MUST(translate::CodeCache::create(vm_, options));  // memory for it; a test host without cannot go on
    vm_.translations = translations_.get();
    runtime_ = translate::attach_runtime(*core_, *translations_);
  }
  void build_page_tables() {
    constexpr u64 kFlags = 7, kLarge = 0x80;
    poke<u64>(kPageTables, (kPageTables + 0x1000) | kFlags);
    poke<u64>(kPageTables + 0x1000, (kPageTables + 0x2000) | kFlags);
    for (u64 i = 0; i < 512; ++i) poke<u64>(kPageTables + 0x2000 + i * 8, i << 21 | kFlags | kLarge);
  }

  memory::AddressSpace memory_{"memory", u64{1} << 46};
  memory::AddressSpace ports_{"ports", 1 << 16};
  std::shared_ptr<memory::RamBlock> ram_;
  cpu::CpuidTable cpuid_;
  SoftVm vm_;
  CorePtr core_;
  std::unique_ptr<BlockCache> blocks_;
  std::unique_ptr<translate::CodeCache> translations_;
  std::unique_ptr<translate::Runtime> runtime_;
  std::unique_ptr<direct::Tier> direct_;
};

}  // namespace atl::soft
