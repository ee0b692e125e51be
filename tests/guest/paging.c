/* Four-level paging: fault codes, permissions, A and D bits, TLB maintenance (SDM vol. 3, chapter 4). */
#include "guest.h"

#define AT 0x18000000000ull
static u64* entry;
static u8* page;

static void do_read(u64 at) { read_byte(at); }
static void do_write(u64 at) { write_byte(at, 0x5a); }
static void do_fetch(u64 at) { ((void (*)(void))at)(); }
static void do_write_u64(u64 at) { *(volatile u64*)at = 0x1122334455667788; }

static void set(u64 flags) {
  *entry = (u64)page | flags;
  invlpg(AT);
}

static void expect_fault_at(const char* what, void (*access)(u64), u64 at, u64 error, u64 cr2) {
  expect(what, catch_call(access, at), kPF);
  expect("  error code", last.error, error);
  expect("  CR2", last_cr2, cr2);
}

static void expect_fault(const char* what, void (*access)(u64), u64 at, u64 error) { expect_fault_at(what, access, at, error, at); }

static void supervisor(void) {
  set(0);
  expect_fault("read of a page that is not present", do_read, AT + 8, 0);
  expect_fault("write to a page that is not present", do_write, AT + 8, 2);
  expect_fault("fetch from a page that is not present", do_fetch, AT + 8, 16);
  set(kP);
  expect("read of a read-only page", catch_call(do_read, AT), kNone);
  expect_fault("write to a read-only page with CR0.WP", do_write, AT, 3);
  write_cr0(read_cr0() & ~0x10000ull);
  expect("write to a read-only page without CR0.WP", catch_call(do_write, AT), kNone);
  write_cr0(read_cr0() | 0x10000);
  expect("the byte written", page[0], 0x5a);
  set(kP | kW | kNX);
  expect_fault("fetch from a no-execute page", do_fetch, AT, 17);
  *entry |= 1ull << 51;
  invlpg(AT);
  expect_fault("reserved bit in an entry", do_read, AT, 9);
  set(kP | kW);
  expect("non-canonical address", catch_call(do_read, 0x8000000000000000ull), kGP);
  expect("  error code", last.error, 0);
}

static void accessed_dirty(void) {
  set(kP | kW);
  expect("neither A nor D before", *entry & (kA | kD), 0);
  catch_call(do_read, AT);
  expect("A after a read", *entry & (kA | kD), kA);
  catch_call(do_write, AT);
  expect("A and D after a write", *entry & (kA | kD), kA | kD);
  set(kP);
  expect("a write that faults", catch_call(do_write, AT), kPF);
  expect("  does not set D", *entry & kD, 0);
}

static void page_crossing(void) {
  u8* next = new_page();
  map_page(AT + 4096, (u64)next, 0);
  set(kP | kW);
  for (int i = 0; i < 8; i++) page[4088 + i] = 0;
  expect_fault_at("write across into a missing page", do_write_u64, AT + 4092, 2, AT + 4096);
  if (!on_kvm()) expect("nothing was written before the fault", *(volatile u32*)(page + 4092), 0);
}

static void stale_entries(void) {
  u8* other = new_page();
  page[16] = 1, other[16] = 2;
  set(kP | kW);
  expect("first page", read_byte(AT + 16), 1);
  *entry = (u64)other | kP | kW;
  invlpg(AT);
  expect("second page after INVLPG", read_byte(AT + 16), 2);
  *entry = (u64)page | kP | kW;
  write_cr3(read_cr3());
  expect("first page after a CR3 write", read_byte(AT + 16), 1);
  write_cr4(read_cr4() | 0x80); /* PGE */
  *entry = (u64)page | kP | kW | kG;
  invlpg(AT);
  read_byte(AT + 16);
  *entry = (u64)other | kP | kW | kG;
  write_cr4(read_cr4() & ~0x80ull);
  expect("second page after PGE was cleared", read_byte(AT + 16), 2);
}

static void large_page(void) {
  /* The 2 MiB page that holds page table `pd` index 8 (16 MiB): clear its A bit, touch it. */
  pd[8] &= ~(u64)(kA | kD);
  invlpg(0x1000000);
  write_byte(0x1000123, 7);
  __asm__ volatile("" : : : "memory");
  expect("A and D of a 2 MiB page", pd[8] & (kA | kD), kA | kD);
  pd[8] |= 1 << 13;
  invlpg(0x1000000);
  expect_fault("reserved bit of a 2 MiB page", do_read, 0x1000123, 9);
  pd[8] &= ~(1ull << 13);
  invlpg(0x1000000);
}

USER_CODE_BYTES(user_read, "mov (%rdi), %al; hlt");
USER_CODE_BYTES(user_write, "movb $1, (%rdi); hlt");
USER_CODE_BYTES(user_jump, "jmp *%rdi");

static void user(void) {
  set(kP | kW);
  expect("user read of a supervisor page", RUN_USER(user_read, AT, 0), kPF);
  expect("  error code", last.error, 5);
  expect("user write to a supervisor page", RUN_USER(user_write, AT, 0), kPF);
  expect("  error code", last.error, 7);
  expect("user fetch from a supervisor page", RUN_USER(user_jump, AT, 0), kPF);
  expect("  error code", last.error, 21);
  set(kP | kU);
  expect("user read of a user page", RUN_USER(user_read, AT, 0), kGP);
  expect("user write to a read-only user page", RUN_USER(user_write, AT, 0), kPF);
  expect("  error code", last.error, 7);
  set(0);
  expect("user read of a missing page", RUN_USER(user_read, AT, 0), kPF);
  expect("  error code", last.error, 4);
}

static void smep_smap(void) {
  if (cpuid_has(7, 1, 7)) {
    set(kP | kU | kW);
    page[0] = 0xc3;
    expect("supervisor fetch from a user page without SMEP", catch_call(do_fetch, AT), kNone);
    write_cr4(read_cr4() | 1 << 20);
    expect_fault("supervisor fetch from a user page with SMEP", do_fetch, AT, 17);
    write_cr4(read_cr4() & ~(1ull << 20));
  }
  if (cpuid_has(7, 1, 20)) {
    write_cr4(read_cr4() | 1 << 21);
    expect_fault("supervisor read of a user page with SMAP", do_read, AT, 1);
    __asm__ volatile("stac");
    expect("the same with AC set", catch_call(do_read, AT), kNone);
    __asm__ volatile("clac");
    write_cr4(read_cr4() & ~(1ull << 21));
  }
}

u32 main(void) {
  page = new_page();
  entry = map_page(AT, (u64)page, kP | kW);
  supervisor();
  accessed_dirty();
  page_crossing();
  stale_entries();
  large_page();
  user();
  smep_smap();
  return report();
}
