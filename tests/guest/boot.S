/* Bare-metal test guests: multiboot 1 entry, long mode with the first 4 GiB mapped one to one by 2 MiB pages, 256 interrupt
   stubs. main() runs at CPL 0; its return value ends the guest through isa-debug-exit. */

    .section .multiboot, "a"
    .align 4
    .long 0x1badb002, 0, -0x1badb002

    .section .text
    .code32
    .globl _start
_start:
    mov $boot_stack_top, %esp
    call fill_tables
    mov $pml4, %eax
    mov %eax, %cr3
    mov %cr4, %eax
    or $0x20, %eax                  /* PAE */
    mov %eax, %cr4
    mov $0xc0000080, %ecx
    rdmsr
    or $0x901, %eax                 /* NXE, LME, SCE */
    wrmsr
    mov %cr0, %eax
    or $0x80010000, %eax            /* PG, WP */
    mov %eax, %cr0
    lgdt gdt_pointer
    ljmp $0x08, $start64

fill_tables:
    movl $pdpt + 3, pml4
    mov $pdpt, %edi
    mov $pd + 3, %eax
    mov $4, %ecx
1:  mov %eax, (%edi)
    add $8, %edi
    add $4096, %eax
    loop 1b
    mov $pd, %edi
    mov $0x83, %eax                 /* present, writable, 2 MiB */
    mov $2048, %ecx
2:  mov %eax, (%edi)
    add $8, %edi
    add $0x200000, %eax
    loop 2b
    ret

    .code64
start64:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov $boot_stack_top, %rsp
    call setup_interrupts
    call main
    mov $0xf4, %edx
    out %eax, %dx
1:  hlt
    jmp 1b

    .globl exit_guest
exit_guest:
    mov %edi, %eax
    mov $0xf4, %edx
    out %eax, %dx
1:  hlt
    jmp 1b

/* Where an application processor starts (SIPI vector 8): real mode to long mode on the same tables, then ap_main(). */
    .globl ap_start, ap_start_end
ap_start:
    .code16
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl ap_gdt_pointer - ap_start + 0x8000
    mov $0x20, %eax
    mov %eax, %cr4
    mov $pml4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x901, %eax
    wrmsr
    mov $0x80010001, %eax
    mov %eax, %cr0
    ljmpl $0x08, $ap64
ap_gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
ap_start_end:
    .code64
ap64:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $ap_stack_top, %rsp
    call ap_main
1:  cli
    hlt
    jmp 1b
    .weak ap_main
ap_main:
    ret

/* Stubs: an error code or 0, the vector, then the common part. Each takes 16 bytes. */
    .balign 16
    .globl stubs
stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
    pushq $0
    .endif
    pushq $vector
    jmp common
    .set vector, vector + 1
    .endr

common:
    push %rax
    push %rcx
    push %rdx
    push %rbx
    push %rbp
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    cld
    mov %rsp, %rdi
    call on_interrupt
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rbp
    pop %rbx
    pop %rdx
    pop %rcx
    pop %rax
    add $16, %rsp
    iretq

/* u32 catch_call(void (*function)(u64), u64 argument): calls it; returns 256, or the vector that on_interrupt came back with
   through catch_return. */
    .globl catch_call
catch_call:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, catch_stack
    mov %rdi, %rax
    mov %rsi, %rdi
    call *%rax
    mov $256, %eax
    jmp 1f
    .globl catch_return
catch_return:                       /* on_interrupt jumps here with the vector in edi */
    mov %edi, %eax
    mov $0x10, %ecx                 /* an exception at CPL 3 leaves SS null, which 32-bit code cannot push to */
    mov %ecx, %ss
    mov catch_stack, %rsp
    cld
1:  pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

/* void enter_user(const u64 *frame): frame = rip, cs, rflags, rsp, ss; rdi and rsi for the user code follow. */
    .globl enter_user
enter_user:
    mov %rdi, %rax
    pushq 32(%rax)
    pushq 24(%rax)
    pushq 16(%rax)
    pushq 8(%rax)
    pushq 0(%rax)
    mov 48(%rax), %rsi
    mov 40(%rax), %rdi
    iretq

    .section .data
    .balign 16
    .globl gdt, gdt_pointer
gdt:
    .quad 0
    .quad 0x00af9b000000ffff        /* 08 kernel code, 64-bit */
    .quad 0x00cf93000000ffff        /* 10 kernel data */
    .quad 0x00cffb000000ffff        /* 18 user code, 32-bit */
    .quad 0x00cff3000000ffff        /* 20 user data */
    .quad 0x00affb000000ffff        /* 28 user code, 64-bit */
    .quad 0, 0                      /* 30 TSS */
    .quad 0x00cf9b000000ffff        /* 40 kernel code, 32-bit */
    .quad 0x00cf13000000ffff        /* 48 data, not present */
    .quad 0x00cf9a000000ffff | 4 << 40  /* 50 conforming code */
    .fill 6, 8, 0
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt

    .section .bss
    .balign 4096
    .globl pml4, pdpt, pd
pml4: .space 4096
pdpt: .space 4096
pd:   .space 4 * 4096
    .space 65536
boot_stack_top:
    .space 16384
ap_stack_top:
    .globl catch_stack
catch_stack: .space 8
    .section .note.GNU-stack, "", @progbits
