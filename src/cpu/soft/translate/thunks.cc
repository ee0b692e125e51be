#include "cpu/soft/translate/thunks.h"

#include <cstddef>
#include <cstring>

#include "base/endian.h"
#include "cpu/soft/native/image.h"

// Core is no standard-layout type, for which offsetof is conditionally supported: both compilers do.
#pragma GCC diagnostic ignored "-Winvalid-offsetof"

namespace atl::soft::translate {
namespace {

static_assert(alignof(Core) == 64);  // so that RSP is aligned for calls
static_assert(kHostOf[kRsp] == kHostR13 && kHostOf[kRbp] == kHostR14 && kHostOf[13] == kInMemory);

constexpr u64 kExt = offsetof(Core, ext);

}  // namespace

// All offsets below are from RSP. In what translated code has called, the return address lies below the core: `D` is "8+" there.
#define ATL_CORE_FIELDS                                                                                                        \
  [gpr] "i"(offsetof(Core, gpr)), [cc] "i"(offsetof(Core, cc)), [host_cc] "i"(offsetof(Core, host_cc)),                        \
      [live] "i"(offsetof(Core, vectors_live)), [want] "i"(offsetof(Core, want_vectors)), [avx] "i"(offsetof(Core, host_avx)), \
      [wide] "i"(offsetof(Core, wide_vectors)), [wide_xmm] "i"(kExt + image::kZmm16), [wide_high] "i"(kExt + image::kZmmHigh),  \
      [opmask] "i"(kExt + image::kOpmask), [host_rsp] "i"(offsetof(Core, host_rsp)), [code] "i"(offsetof(Core, go_code)), [rip] "i"(offsetof(Core, go_rip)),       \
      [xmm] "i"(kExt + image::kXmm), [high] "i"(kExt + image::kYmmHigh), [mxcsr] "i"(kExt + image::kMxcsr)

#define ATL_SAVE_REGISTERS(D)               \
  "movq %%rax, " D "0+%c[gpr](%%rsp)\n"     \
  "lahf\n"                                  \
  "seto %%al\n"                             \
  "movw %%ax, " D "%c[host_cc](%%rsp)\n"    \
  "movq %%rcx, " D "8+%c[gpr](%%rsp)\n"     \
  "movq %%rdx, " D "16+%c[gpr](%%rsp)\n"    \
  "movq %%rbx, " D "24+%c[gpr](%%rsp)\n"    \
  "movq %%r13, " D "32+%c[gpr](%%rsp)\n"    \
  "movq %%r14, " D "40+%c[gpr](%%rsp)\n"    \
  "movq %%rsi, " D "48+%c[gpr](%%rsp)\n"    \
  "movq %%rdi, " D "56+%c[gpr](%%rsp)\n"    \
  "movq %%r8, " D "64+%c[gpr](%%rsp)\n"     \
  "movq %%r9, " D "72+%c[gpr](%%rsp)\n"     \
  "movq %%r10, " D "80+%c[gpr](%%rsp)\n"    \
  "movq %%r11, " D "88+%c[gpr](%%rsp)\n"    \
  "movq %%r12, " D "96+%c[gpr](%%rsp)\n"    \
  "leaq " D "0(%%rsp), %%rdi\n"             \
  "cmpb $0, " D "%c[live](%%rsp)\n"         \
  "je 1f\n"                                 \
  "call atl_translate_save_vectors\n"       \
  "1:\n"

#define ATL_EACH_VECTOR(X)                                                                                            \
  X("0") X("1") X("2") X("3") X("4") X("5") X("6") X("7") X("8") X("9") X("10") X("11") X("12") X("13") X("14") X("15")
#define ATL_STORE_LOW(N) "movaps %%xmm" N ", 16*" N "+%c[xmm](%%rdi)\n"
#define ATL_LOAD_LOW(N) "movaps 16*" N "+%c[xmm](%%rdi), %%xmm" N "\n"
#define ATL_STORE_AVX(N)                          \
  "vmovaps %%xmm" N ", 16*" N "+%c[xmm](%%rdi)\n" \
  "vextractf128 $1, %%ymm" N ", 16*" N "+%c[high](%%rdi)\n"
#define ATL_LOAD_AVX(N)                           \
  "vmovaps 16*" N "+%c[xmm](%%rdi), %%xmm" N "\n" \
  "vinsertf128 $1, 16*" N "+%c[high](%%rdi), %%ymm" N ", %%ymm" N "\n"

#define ATL_STORE_WIDE(N)                                   \
  "vmovaps %%xmm" N ", 16*" N "+%c[xmm](%%rdi)\n"           \
  "vextractf128 $1, %%ymm" N ", 16*" N "+%c[high](%%rdi)\n" \
  "vextractf64x4 $1, %%zmm" N ", 32*" N "+%c[wide_high](%%rdi)\n"
#define ATL_LOAD_WIDE(N)                                              \
  "vmovaps 16*" N "+%c[xmm](%%rdi), %%xmm" N "\n"                     \
  "vinsertf128 $1, 16*" N "+%c[high](%%rdi), %%ymm" N ", %%ymm" N "\n" \
  "vinsertf64x4 $1, 32*" N "+%c[wide_high](%%rdi), %%zmm" N ", %%zmm" N "\n"
#define ATL_EACH_OF_16(X)                                                                                                   \
  X("16") X("17") X("18") X("19") X("20") X("21") X("22") X("23") X("24") X("25") X("26") X("27") X("28") X("29") X("30") X("31")
#define ATL_STORE_16(N) "vmovaps %%zmm" N ", 64*(" N "-16)+%c[wide_xmm](%%rdi)\n"
#define ATL_LOAD_16(N) "vmovaps 64*(" N "-16)+%c[wide_xmm](%%rdi), %%zmm" N "\n"
#define ATL_CLEAR_16(N) "vpxord %%zmm" N ", %%zmm" N ", %%zmm" N "\n"
#define ATL_EACH_OPMASK(X) X("0") X("1") X("2") X("3") X("4") X("5") X("6") X("7")
#define ATL_STORE_OPMASK(N) "kmovq %%k" N ", 8*" N "+%c[opmask](%%rdi)\n"
#define ATL_LOAD_OPMASK(N) "kmovq 8*" N "+%c[opmask](%%rdi), %%k" N "\n"
#define ATL_CLEAR_OPMASK(N) "kxorq %%k" N ", %%k" N ", %%k" N "\n"

extern "C" {

[[gnu::visibility("hidden")]] extern const u32 atl_translate_host_mxcsr;
[[gnu::used]] const u32 atl_translate_host_mxcsr = image::kMxcsrDefault;

/// RDI: the core. Keeps the general registers.
[[gnu::naked, gnu::used, gnu::visibility("hidden")]] void atl_translate_save_vectors() {
  asm volatile(
      "cmpb %[level], %c[live](%%rdi)\n"
      "je 3f\n"
      "cmpb $0, %c[avx](%%rdi)\n"
      "jne 1f\n" ATL_EACH_VECTOR(ATL_STORE_LOW)
      "jmp 2f\n"
      "3:\n" ATL_EACH_VECTOR(ATL_STORE_WIDE) ATL_EACH_OF_16(ATL_STORE_16) ATL_EACH_OPMASK(ATL_STORE_OPMASK)
      "vzeroupper\n"
      "jmp 2f\n"
      "1:\n" ATL_EACH_VECTOR(ATL_STORE_AVX)
      "vzeroupper\n"
      "2:\n"
      "stmxcsr %c[mxcsr](%%rdi)\n"
      "ldmxcsr atl_translate_host_mxcsr(%%rip)\n"
      "movb $0, %c[live](%%rdi)\n"
      "ret\n" ::ATL_CORE_FIELDS, [level] "i"(kWideVectors));
}

/// RDI: the core. Keeps the general registers, but not the flags. From now on the state of AVX-512 is in use.
[[gnu::naked, gnu::used, gnu::visibility("hidden")]] void atl_translate_make_wide() {
  asm volatile(ATL_EACH_VECTOR(ATL_LOAD_WIDE) ATL_EACH_OF_16(ATL_LOAD_16) ATL_EACH_OPMASK(ATL_LOAD_OPMASK)
      "ldmxcsr %c[mxcsr](%%rdi)\n"
      "movb %[level], %c[live](%%rdi)\n"
      "movb $1, %c[wide](%%rdi)\n"
      "ret\n" ::ATL_CORE_FIELDS, [level] "i"(kWideVectors));
}

/// The same with XMM and YMM only, if there is nothing in the others: all that loading these does to them is to clear the upper
/// halves of ZMM0 to ZMM15, which is right.
[[gnu::naked, gnu::used, gnu::visibility("hidden")]] void atl_translate_make_live() {
  asm volatile(
      "cmpb $0, %c[wide](%%rdi)\n"
      "jne atl_translate_make_wide\n"
      "cmpb $0, %c[avx](%%rdi)\n"
      "jne 1f\n" ATL_EACH_VECTOR(ATL_LOAD_LOW)
      "jmp 2f\n"
      "1:\n" ATL_EACH_VECTOR(ATL_LOAD_AVX)
      "2:\n"
      "ldmxcsr %c[mxcsr](%%rdi)\n"
      "movb %[level], %c[live](%%rdi)\n"
      "ret\n" ::ATL_CORE_FIELDS, [level] "i"(kNarrowVectors));
}

/// RSP: the core. RAX: where to go on, with the guest's registers from Core::gpr, or 0 for out.
[[gnu::naked, gnu::used, gnu::visibility("hidden")]] void atl_translate_go() {
  asm volatile(
      "testq %%rax, %%rax\n"
      "je 2f\n"
      "movq %%rax, %c[code](%%rsp)\n"
      "cmpb $0, %c[want](%%rsp)\n"
      "je 1f\n"
      "movq %%rsp, %%rdi\n"
      "cmpb %[level], %c[want](%%rsp)\n"
      "je 3f\n"
      "call atl_translate_make_live\n"
      "jmp 1f\n"
      "3:\n"
      "call atl_translate_make_wide\n"
      "1:\n"
      "movq %c[rip](%%rsp), %%rbp\n"
      "movq 8+%c[gpr](%%rsp), %%rcx\n"
      "movq 16+%c[gpr](%%rsp), %%rdx\n"
      "movq 24+%c[gpr](%%rsp), %%rbx\n"
      "movq 32+%c[gpr](%%rsp), %%r13\n"
      "movq 40+%c[gpr](%%rsp), %%r14\n"
      "movq 48+%c[gpr](%%rsp), %%rsi\n"
      "movq 56+%c[gpr](%%rsp), %%rdi\n"
      "movq 64+%c[gpr](%%rsp), %%r8\n"
      "movq 72+%c[gpr](%%rsp), %%r9\n"
      "movq 80+%c[gpr](%%rsp), %%r10\n"
      "movq 88+%c[gpr](%%rsp), %%r11\n"
      "movq 96+%c[gpr](%%rsp), %%r12\n"
      "movzwl %c[cc](%%rsp), %%eax\n"
      "addb $0x7f, %%al\n"
      "sahf\n"
      "movq 0+%c[gpr](%%rsp), %%rax\n"
      "jmpq *%c[code](%%rsp)\n"
      "2:\n"
      "movq %c[host_rsp](%%rsp), %%rsp\n"
      "popq %%r15\n"
      "popq %%r14\n"
      "popq %%r13\n"
      "popq %%r12\n"
      "popq %%rbp\n"
      "popq %%rbx\n"
      "ret\n" ::ATL_CORE_FIELDS, [level] "i"(kWideVectors));
}

[[gnu::naked]] void atl_translate_enter(Core*, const void*, u64) {
  asm volatile(
      "pushq %%rbx\n"
      "pushq %%rbp\n"
      "pushq %%r12\n"
      "pushq %%r13\n"
      "pushq %%r14\n"
      "pushq %%r15\n"
      "movq %%rsp, %c[host_rsp](%%rdi)\n"
      "movq %%rdi, %%rsp\n"
      "movb $0, %c[want](%%rsp)\n"
      "movq %%rdx, %c[rip](%%rsp)\n"
      "movq %%rsi, %%rax\n"
      "jmp atl_translate_go\n" ::ATL_CORE_FIELDS);
}

[[gnu::naked, gnu::used]] void atl_translate_lookup_thunk() {
  asm volatile(ATL_SAVE_REGISTERS("") "movq %%rbp, %%rsi\n"
                                      "call atl_translate_lookup\n"
                                      "jmp atl_translate_go\n" ::ATL_CORE_FIELDS);
}

#define ATL_CALLED_THUNK(NAME, FUNCTION)                                 \
  [[gnu::naked, gnu::used]] void NAME() {                                \
    asm volatile(ATL_SAVE_REGISTERS("8+") "movq (%%rsp), %%rsi\n"        \
                                          "movq %%rbp, %%rdx\n"          \
                                          "subq $8, %%rsp\n"             \
                                          "call " #FUNCTION "\n"         \
                                          "addq $16, %%rsp\n"            \
                                          "jmp atl_translate_go\n" ::ATL_CORE_FIELDS); \
  }

ATL_CALLED_THUNK(atl_translate_miss_read_thunk, atl_translate_miss_read)
ATL_CALLED_THUNK(atl_translate_miss_write_thunk, atl_translate_miss_write)
ATL_CALLED_THUNK(atl_translate_callout_thunk, atl_translate_callout)
ATL_CALLED_THUNK(atl_translate_single_thunk, atl_translate_single)
ATL_CALLED_THUNK(atl_translate_refuse_vectors_thunk, atl_translate_refuse_vectors)

/// Vector instructions may be disabled; then the interpreter runs the one at hand, and raises its fault.
[[gnu::naked, gnu::used]] void atl_translate_load_vectors_thunk() {
  asm volatile(
      "cmpb $0, 8+%c[allowed](%%rsp)\n"
      "je atl_translate_refuse_vectors_thunk\n"
      "pushq %%rdi\n"
      "leaq 16(%%rsp), %%rdi\n"
      "call atl_translate_make_live\n"
      "popq %%rdi\n"
      "ret\n" ::ATL_CORE_FIELDS,
      [allowed] "i"(offsetof(Core, vectors_allowed)));
}

/// If XMM and YMM are live alone, what the others hold is all zero.
[[gnu::naked, gnu::used]] void atl_translate_load_wide_thunk() {
  asm volatile(
      "cmpb %[level], 8+%c[allowed](%%rsp)\n"
      "jne atl_translate_refuse_vectors_thunk\n"
      "pushq %%rdi\n"
      "leaq 16(%%rsp), %%rdi\n"
      "cmpb $0, %c[live](%%rdi)\n"
      "jne 1f\n"
      "call atl_translate_make_wide\n"
      "popq %%rdi\n"
      "ret\n"
      "1:\n" ATL_EACH_OF_16(ATL_CLEAR_16) ATL_EACH_OPMASK(ATL_CLEAR_OPMASK)
      "movb %[level], %c[live](%%rdi)\n"
      "movb $1, %c[wide](%%rdi)\n"
      "popq %%rdi\n"
      "ret\n" ::ATL_CORE_FIELDS,
      [allowed] "i"(offsetof(Core, vectors_allowed)), [level] "i"(kWideVectors));
}

}  // extern "C"

void write_pads(std::span<u8, kPadsBytes> out) {
  using Code = void (*)();
  constexpr std::array<Code, static_cast<size_t>(Thunk::kCount)> kTargets = {
      atl_translate_lookup_thunk, atl_translate_miss_read_thunk, atl_translate_miss_write_thunk, atl_translate_callout_thunk,
      atl_translate_single_thunk, atl_translate_load_vectors_thunk, atl_translate_load_wide_thunk};
  constexpr u8 kJump[] = {0xff, 0x25, 2, 0, 0, 0, 0xcc, 0xcc};  // JMP [rip + 2]; the word follows
  for (size_t i = 0; i < kTargets.size(); ++i) {
    std::memcpy(&out[i * kPadBytes], kJump, sizeof kJump);
    store_le<u64>(&out[i * kPadBytes + sizeof kJump], reinterpret_cast<u64>(kTargets[i]));
  }
}

}  // namespace atl::soft::translate
