/* Every combination of page table bits, control register bits and kinds of access, against the rules of the manual (SDM vol. 3, sections
   5.6 to 5.8): who may do it, the page fault's error code, accessed and dirty flags. */
#include "guest.h"

#define TESTED 0x18000000000ull
#define RESERVED (1ull << 51)
enum { kSmep = 1 << 20, kSmap = 1 << 21, kWp = 1 << 16, kNxe = 1 << 11, kAc = 1 << 18 };
enum { kRead, kWrite, kFetch, kKinds };
enum { kUserFetch = 16 }; /* offset of the bytes that user code jumps to */

struct mode { int wp, nxe, smep, smap, ac; };

static u64 *pde, *pte, *page;

static void do_read(u64 ac) {
  if (ac) __asm__ volatile("stac");
  (void)read_byte(TESTED);
  if (ac) __asm__ volatile("clac");
}
static void do_write(u64 ac) {
  if (ac) __asm__ volatile("stac");
  write_byte(TESTED, 0xc3);
  if (ac) __asm__ volatile("clac");
}
static void do_fetch(u64 ac) {
  (void)ac;
  ((void (*)(void))TESTED)();
}
static void (*const kernel_access[kKinds])(u64) = {do_read, do_write, do_fetch};
USER_CODE_BYTES(user_read, "movb (%rdi), %al; int $0x80");
USER_CODE_BYTES(user_write, "movb $0xc3, (%rdi); int $0x80");
USER_CODE_BYTES(user_fetch, "add $16, %rdi; jmp *%rdi");

static u32 access(int user, int kind, int ac) {
  if (!user) return catch_call(kernel_access[kind], (u64)ac);
  switch (kind) {
    case kRead: return RUN_USER(user_read, TESTED, 0);
    case kWrite: return RUN_USER(user_write, TESTED, 0);
    default: return RUN_USER(user_fetch, TESTED, 0);
  }
}

static int has_reserved(u64 entry, const struct mode* m) { return entry & RESERVED || (entry & kNX && !m->nxe); }

/* 0: allowed; else the error code with bit 31 set. */
static u32 expected(u64 upper, u64 lower, const struct mode* m, int user, int kind) {
  enum { kFault = 1u << 31, kCodeP = 1, kCodeW = 2, kCodeU = 4, kCodeReserved = 8, kCodeI = 16 };
  u32 code = kFault | (kind == kWrite ? kCodeW : 0) | (user ? kCodeU : 0) | (kind == kFetch && (m->nxe || m->smep) ? kCodeI : 0);
  if (!(upper & kP)) return code;
  if (has_reserved(upper, m)) return code | kCodeP | kCodeReserved;
  if (!(lower & kP)) return code;
  if (has_reserved(lower, m)) return code | kCodeP | kCodeReserved;
  int writable = (upper & lower & kW) != 0, user_page = (upper & lower & kU) != 0, no_execute = ((upper | lower) & kNX) != 0;
  int allowed = user ? user_page : 1;
  if (kind == kWrite && !writable && (user || m->wp)) allowed = 0;
  if (kind == kFetch && no_execute) allowed = 0;
  if (!user && user_page && kind == kFetch && m->smep) allowed = 0;
  if (!user && user_page && kind != kFetch && m->smap && !m->ac) allowed = 0;
  return allowed ? 0 : code | kCodeP;
}

static u64 bits_of(u32 choice) { return (choice & 1 ? kP : 0) | (choice & 2 ? kW : 0) | (choice & 4 ? kU : 0) | (choice & 8 ? kNX : 0) | (choice & 16 ? RESERVED : 0); }

static u64 wrong;
static void check(u64 what, u64 got, u64 wanted) {
  if (got != wanted && wrong++ < 8) print("FAIL "), print_hex(what), expect(": code or flags", got, wanted);
}

static void try(u64 upper, u64 lower, const struct mode* m, int user, int kind) {
  *pde = ((u64)pte & ~0xfffull) | upper;
  *pte = (u64)page | lower;
  invlpg(TESTED);
  u32 vector = access(user, kind, m->ac);
  u32 got = vector == kPF ? 1u << 31 | (u32)last.error : 0;
  u64 id = upper | lower << 8 | (u64)kind << 20 | (u64)user << 24 | (u64)(m->wp | m->nxe << 1 | m->smep << 2 | m->smap << 3 | m->ac << 4) << 28;
  u32 wanted = expected(upper, lower, m, user, kind);
  check(id, got, wanted);
  if (wanted) return;
  check(id | 1ull << 40, (*pde & kA) != 0 && (*pte & kA) != 0, 1);
  check(id | 1ull << 41, (*pte & kD) != 0, kind == kWrite);
}

static void set_mode(const struct mode* m) {
  write_cr0(m->wp ? read_cr0() | kWp : read_cr0() & ~(u64)kWp);
  wrmsr(0xc0000080, m->nxe ? rdmsr(0xc0000080) | kNxe : rdmsr(0xc0000080) & ~(u64)kNxe);
  write_cr4((read_cr4() & ~(u64)(kSmep | kSmap)) | (m->smep ? kSmep : 0) | (m->smap ? kSmap : 0));
}

static void try_all(const struct mode* m) {
  set_mode(m);
  for (u32 upper = 0; upper < 18; upper++) /* 16 and 17 have the reserved bit */
    for (u32 lower = 0; lower < 32; lower++)
      for (int user = 0; user < 2; user++)
        for (int kind = 0; kind < kKinds; kind++) try(bits_of(upper), bits_of(lower), m, user, kind);
}

u32 main(void) {
  page = new_page();
  *(u8*)page = 0xc3; /* ret */
  ((u8*)page)[kUserFetch] = 0xcd, ((u8*)page)[kUserFetch + 1] = 0x80;
  pte = map_page(TESTED, (u64)page, kP | kW | kU);
  u64* table = (u64*)(pml4[TESTED >> 39 & 511] & ~0xfffull);
  table = (u64*)(table[TESTED >> 30 & 511] & ~0xfffull);
  pde = &table[TESTED >> 21 & 511];
  int smep = cpuid_has(7, 1, 7), smap = cpuid_has(7, 1, 20);
  for (u32 i = 0; i < 32; i++) {
    struct mode m = {i & 1, i >> 1 & 1, i >> 2 & 1, i >> 3 & 1, i >> 4 & 1};
    if ((m.smep && !smep) || (m.smap && !smap) || (m.ac && !m.smap)) continue;
    try_all(&m);
  }
  set_mode(&(struct mode){1, 1, 0, 0, 0});
  expect("wrong answers", wrong, 0);
  return report();
}
