/* What a bare-metal test guest is written with: see boot.S for the state that main() starts in. */
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

struct frame {
  u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
  u64 vector, error, rip, cs, rflags, rsp, ss;
};
enum { kNone = 256, kDE = 0, kDB = 1, kNMI = 2, kBP = 3, kOF = 4, kUD = 6, kNM = 7, kDF = 8, kTS = 10, kNP = 11, kSS = 12, kGP = 13, kPF = 14, kAC = 17 };

struct tss {
  u32 reserved0;
  u64 rsp[3], reserved1, ist[7], reserved2;
  u16 reserved3, io_map;
  u8 io_bitmap[8193];
} __attribute__((packed));

extern u64 gdt[], pml4[], pdpt[], pd[];
extern struct tss tss;
extern struct frame last;       /* the frame of the interrupt that ended the last catch() */
extern u64 last_cr2;
extern volatile u32 counts[256]; /* interrupts that a handler took, by vector */

u32 catch_call(void (*function)(u64), u64 argument);
void enter_user(const u64* frame);
void exit_guest(u32 code) __attribute__((noreturn));

/* Interrupts of this vector are counted, acknowledged at the local APIC if `apic`, and returned from. */
void count_vector(u8 vector, int apic);
/* Interrupts of this vector go to `handler`, which may change the frame, and are returned from. */
void handle_vector(u8 vector, void (*handler)(struct frame*));
void set_gate(u8 vector, u8 dpl, u8 ist, int trap);
/* For another processor: the same IDT. */
void load_idt(void);
/* Starts processor 1 by INIT and SIPI; it runs ap_main() of the test. */
void start_ap(void);
void print(const char* text);
void print_hex(u64 value);
/* Reports one expectation; the guest fails if any does not hold. */
void expect(const char* what, u64 got, u64 wanted);
/* The exit status for main() to return: 0 if all expectations held. */
u32 report(void);

/* A fresh zeroed page (identity-mapped). */
void* new_page(void);
/* Maps one 4 KiB page at `linear` (an address from 512 GiB up, away from the identity map). */
enum { kP = 1, kW = 2, kU = 4, kPWT = 8, kPCD = 16, kA = 32, kD = 64, kPS = 128, kG = 256 };
#define kNX (1ull << 63)
u64* map_page(u64 linear, u64 physical, u64 flags);
#define USER_CODE 0x10000000000ull
#define USER_DATA 0x10000001000ull
#define USER_STACK 0x10000002000ull /* one page, grows down from its end */
/* Copies code to USER_CODE and runs it at CPL 3 with rdi, rsi; returns the vector that it came back with. */
u32 run_user(const void* code, size_t size, u64 rdi, u64 rsi, u64 rflags);
#define RUN_USER(name, rdi, rsi) run_user(name, (size_t)(name##_end - name), rdi, rsi, 2)
/* Defines bytes of user code between `name` and `name_end`. */
#define USER_CODE_BYTES(name, text) \
  extern const u8 name[], name##_end[]; \
  __asm__(".section .rodata\n" #name ":\n" text "\n" #name "_end:\n.text\n")

static inline u64 rdmsr(u32 msr) {
  u32 low, high;
  __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
  return (u64)high << 32 | low;
}
static inline void wrmsr(u32 msr, u64 value) {
  __asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}
#define READ_REGISTER(name) \
  static inline u64 read_##name(void) { u64 v; __asm__ volatile("mov %%" #name ", %0" : "=r"(v)); return v; } \
  static inline void write_##name(u64 v) { __asm__ volatile("mov %0, %%" #name : : "r"(v) : "memory"); }
READ_REGISTER(cr0)
READ_REGISTER(cr2)
READ_REGISTER(cr3)
READ_REGISTER(cr4)
READ_REGISTER(cr8)
READ_REGISTER(dr0)
READ_REGISTER(dr6)
READ_REGISTER(dr7)
static inline void invlpg(u64 linear) { __asm__ volatile("invlpg (%0)" : : "r"(linear) : "memory"); }
static inline void outb(u16 port, u8 v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static inline void outl(u16 port, u32 v) { __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port)); }
static inline u8 inb(u16 port) {
  u8 v;
  __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
  return v;
}
static inline u32 apic_read(u32 reg) { return *(volatile u32*)(0xfee00000ull + reg); }
static inline void apic_write(u32 reg, u32 v) { *(volatile u32*)(0xfee00000ull + reg) = v; }
static inline u8 read_byte(u64 at) { return *(volatile u8*)at; }
static inline void write_byte(u64 at, u8 v) { *(volatile u8*)at = v; }
/* Whether KVM runs this. Without hardware virtualization it emulates CPL 0, and a write that crosses into a page fault has
   then begun. */
static inline int on_kvm(void) {
  u32 a = 0x40000000, b, c, d;
  __asm__("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
  return b == 0x4b4d564b;
}
static inline int cpuid_has(u32 leaf, int reg, u32 bit) {
  u32 r[4];
  __asm__("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(0));
  return r[reg] >> bit & 1;
}
