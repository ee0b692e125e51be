// The few host instructions that stubs are made of. RDI holds the Core, RSI the memory operand, RDX the fault exit.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <span>
#include <vector>

#include "base/endian.h"
#include "cpu/soft/native/image.h"

// Core is no standard-layout type, for which offsetof is conditionally supported: both compilers do.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"

namespace atl::soft {

class Emitter {
 public:
  static constexpr u32 kImage = offsetof(Core, ext);
  static constexpr u32 xmm_at(unsigned i) { return kImage + image::kXmm + 16 * i; }
  static constexpr u32 ymm_high_at(unsigned i) { return kImage + image::kYmmHigh + 16 * i; }
  static constexpr u32 zmm_high_at(unsigned i) { return kImage + image::kZmmHigh + 32 * i; }
  static constexpr u32 zmm16_at(unsigned i) { return kImage + image::kZmm16 + 64 * (i - 16); }
  static constexpr u32 opmask_at(unsigned i) { return kImage + image::kOpmask + 8 * i; }
  static constexpr u32 mm_at(unsigned i) { return kImage + image::kSt + 16 * i; }

  void raw(std::initializer_list<u8> bytes) { code_.insert(code_.end(), bytes); }
  void raw(std::span<const u8> bytes) { code_.insert(code_.end(), bytes.begin(), bytes.end()); }
  const std::vector<u8>& code() const { return code_; }
  size_t size() const { return code_.size(); }

  // Legacy encodings where the stub has no VEX instruction, VEX where it has: mixing costs a transition on some processors.
  void load_xmm(unsigned i) { legacy_move(0x28, i, xmm_at(i)); }
  void store_xmm(unsigned i) { legacy_move(0x29, i, xmm_at(i)); }
  void load_xmm_vex(unsigned i) { vex_move(0x28, i, xmm_at(i)); }
  void store_xmm_vex(unsigned i) { vex_move(0x29, i, xmm_at(i)); }
  void load_ymm_high(unsigned i) {  // VINSERTF128 ymm, ymm, m128, 1
    raw({0xc4, vex_r(0xe3, i), static_cast<u8>((~i & 15) << 3 | 5), 0x18});
    memory(i, ymm_high_at(i));
    raw({1});
  }
  void store_ymm_high(unsigned i) {  // VEXTRACTF128 m128, ymm, 1
    raw({0xc4, vex_r(0xe3, i), 0x7d, 0x19});
    memory(i, ymm_high_at(i));
    raw({1});
  }
  void store_zmm_high(unsigned i) {  // VEXTRACTF64X4 m256, zmm, 1
    raw({0x62, static_cast<u8>(evex_r(i) | 3), 0xfd, 0x48, 0x1b});
    memory(i, zmm_high_at(i));
    raw({1});
  }
  void load_zmm(unsigned i) {
    if (i >= 16) return move_zmm16(0x10, i);
    load_xmm_vex(i);
    load_ymm_high(i);
    raw({0x62, static_cast<u8>(evex_r(i) | 3), static_cast<u8>(0x85 | (~i & 15) << 3), 0x48, 0x1a});  // VINSERTF64X4 zmm, zmm, m256, 1
    memory(i, zmm_high_at(i));
    raw({1});
  }
  void store_zmm(unsigned i) {
    if (i >= 16) return move_zmm16(0x11, i);
    store_xmm_vex(i);
    store_ymm_high(i);
    store_zmm_high(i);
  }
  void load_opmask(unsigned i) { move_opmask(0x90, i); }
  void store_opmask(unsigned i) { move_opmask(0x91, i); }
  void zero_uppers() { raw({0xc5, 0xf8, 0x77}); }  // VZEROUPPER

  void load_mm(unsigned i) { move_mm(0x6f, i); }
  void store_mm(unsigned i) {
    move_mm(0x7f, i);
    raw({0x66, 0xc7, 0x87});  // the sign and exponent become ones: MOV word [rdi + disp32], 0xffff
    word32(mm_at(i) + 8);
    raw({0xff, 0xff});
  }
  void end_mmx() { raw({0x0f, 0x77}); }  // EMMS

  /// Between a host GPR (0 to 2) and one of the guest's.
  void load_gpr(unsigned host, unsigned guest) { move_gpr(0x8b, host, guest); }
  void store_gpr(unsigned host, unsigned guest) { move_gpr(0x89, host, guest); }

  void flags_in() {  // MOVZX eax, word [cc]; ADD al, 0x7f (gives OF); SAHF
    raw({0x0f, 0xb7, 0x87});
    word32(offsetof(Core, cc));
    raw({0x04, 0x7f, 0x9e});
  }
  void flags_out() {  // LAHF; SETO al; MOV [cc], ax
    raw({0x9f, 0x0f, 0x90, 0xc0, 0x66, 0x89, 0x87});
    word32(offsetof(Core, cc));
  }

  void load_guest_mxcsr() {
    raw({0x0f, 0xae, 0x97});
    word32(kImage + image::kMxcsr);
  }
  void store_guest_mxcsr() {
    raw({0x0f, 0xae, 0x9f});
    word32(kImage + image::kMxcsr);
  }
  /// `distance`: from the end of this instruction to the host's value.
  void load_host_mxcsr(i32 distance) {
    raw({0x0f, 0xae, 0x15});
    word32(static_cast<u32>(distance));
  }
  static constexpr size_t kLoadHostMxcsrBytes = 7;

  void restore_image() {  // FXRSTOR64
    raw({0x48, 0x0f, 0xae, 0x8f});
    word32(kImage);
  }
  void save_image() {  // FXSAVE64
    raw({0x48, 0x0f, 0xae, 0x87});
    word32(kImage);
  }
  void init_host_x87() { raw({0xdb, 0xe3}); }  // FNINIT: the state that the ABI wants at calls

  void return_ok() { raw({0x31, 0xc0, 0xc3}); }
  void return_fault() { raw({0xb8, 1, 0, 0, 0, 0xc3}); }

 private:
  /// EVEX's bits R and R', X and B being clear (that is, set).
  static unsigned evex_r(unsigned reg) { return (reg & 8 ? 0u : 0x80u) | 0x60u | (reg & 16 ? 0u : 0x10u); }
  static u8 vex_r(u8 byte, unsigned reg) { return static_cast<u8>(reg < 8 ? byte : byte & 0x7f); }
  void word32(u32 value) {
    for (int i = 0; i < 4; ++i) code_.push_back(static_cast<u8>(value >> 8 * i));
  }
  void memory(unsigned reg, u32 displacement) {  // [rdi + disp32]
    code_.push_back(static_cast<u8>(0x87 | (reg & 7) << 3));
    word32(displacement);
  }
  void legacy_move(u8 opcode, unsigned reg, u32 at) {
    if (reg >= 8) raw({0x44});
    raw({0x0f, opcode});
    memory(reg, at);
  }
  void vex_move(u8 opcode, unsigned reg, u32 at) {
    raw({0xc5, vex_r(0xf8, reg), opcode});
    memory(reg, at);
  }
  void move_zmm16(u8 opcode, unsigned reg) {  // VMOVUPS
    raw({0x62, static_cast<u8>(evex_r(reg) | 1), 0x7c, 0x48, opcode});
    memory(reg, zmm16_at(reg));
  }
  void move_opmask(u8 opcode, unsigned reg) {  // KMOVQ
    raw({0xc4, 0xe1, 0xf8, opcode});
    memory(reg, opmask_at(reg));
  }
  void move_mm(u8 opcode, unsigned reg) {
    raw({0x0f, opcode});
    memory(reg, mm_at(reg));
  }
  void move_gpr(u8 opcode, unsigned host, unsigned guest) {
    raw({0x48, opcode});
    memory(host, static_cast<u32>(offsetof(Core, gpr) + 8 * guest));
  }

  std::vector<u8> code_;
};

}  // namespace atl::soft

#pragma GCC diagnostic pop
