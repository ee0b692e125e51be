/* 32-bit bare-metal test guests: multiboot entry, flat segments, no paging, 256 interrupt stubs. */

    .section .multiboot, "a"
    .align 4
    .long 0x1badb002, 0, -0x1badb002

    .section .text
    .code32
    .globl _start
_start:
    mov $boot_stack_top, %esp
    lgdt gdt_pointer
    ljmp $0x08, $1f
1:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    call setup
    call main
    mov $0xf4, %edx
    out %eax, %dx
1:  hlt
    jmp 1b

    .balign 16
    .globl stubs
stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
    pushl $0
    .endif
    pushl $vector
    jmp common
    .set vector, vector + 1
    .endr

common:
    pusha
    mov $0x10, %eax                 /* whatever the interrupted code had */
    mov %eax, %ds
    mov %eax, %es
    cld
    mov %esp, %eax
    push %eax
    call on_interrupt
    add $4, %esp
    popa
    add $8, %esp
    iret

/* u32 catch_call(void (*function)(u32), u32 argument): 256, or the vector that ended the call. */
    .globl catch_call
catch_call:
    push %ebx
    push %ebp
    push %esi
    push %edi
    mov %esp, catch_stack
    push 24(%esp)
    call *24(%esp)
    add $4, %esp
    mov $256, %eax
    jmp 1f
    .globl catch_return
catch_return:
    mov 4(%esp), %eax
    mov $0x10, %ecx
    mov %ecx, %ss
    mov %ecx, %ds
    mov %ecx, %es
    mov catch_stack, %esp
    cld
1:  pop %edi
    pop %esi
    pop %ebp
    pop %ebx
    ret

/* void enter(const u32 *frame): IRET with eip, cs, eflags, esp, ss, and for v86 es, ds, fs, gs. */
    .globl enter
enter:
    mov 4(%esp), %eax
    .irp at, 32, 28, 24, 20, 16, 12, 8, 4, 0
    pushl \at(%eax)
    .endr
    iret

/* u32 in_real_mode(u32 argument): leaves protected mode, runs INT 0x21 through the IVT at 0, and comes back with ax + what
   the handler added. */
    .globl in_real_mode
in_real_mode:
    mov 4(%esp), %eax
    push %ebx
    push %ebp
    mov %eax, %ebx
    sidt idt_save
    lidt real_idt
    ljmp $0x18, $(real16 - real_base + 0x9000)
    .globl real_base, real_end
real_base:
    .code16
real16:
    mov $0x20, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov %cr0, %eax
    and $0xfffffffe, %eax
    mov %eax, %cr0
    ljmp $0, $(1f - real_base + 0x9000)
1:  xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %esp, %ebp
    mov $0x8f0, %ax
    mov %ax, %ss                    /* a stack of our own at 0x8f00 */
    mov $0xf0, %sp
    mov %bx, %ax
    int $0x21
    mov %ax, %bx
    xor %ax, %ax
    mov %ax, %ds
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $0x08, $back32
real_handler:                       /* adds 0x1111 and CS, shows that FLAGS.IF was cleared */
    add $0x1111, %ax
    pushf
    pop %cx
    test $0x200, %cx
    jz 1f
    xor %ax, %ax
1:  iret
real_end:
    .code32
back32:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %ebp, %esp
    lidt idt_save
    movzwl %bx, %eax
    pop %ebp
    pop %ebx
    ret
    .globl real_handler_offset
real_handler_offset: .long real_handler - real_base + 0x9000

    .section .data
    .balign 16
    .globl gdt
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff        /* 08 code */
    .quad 0x00cf93000000ffff        /* 10 data */
    .quad 0x00009b000000ffff        /* 18 16-bit code */
    .quad 0x000093000000ffff        /* 20 16-bit data */
    .quad 0x00cffb000000ffff        /* 28 user code */
    .quad 0x00cff3000000ffff        /* 30 user data */
    .fill 10, 8, 0                  /* 38 TSS, 40 second TSS, 48 call gate, 50 limited, 58 expand-down, 60 task gate ... */
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
real_idt:
    .word 0x3ff
    .long 0
idt_save: .space 6

    .section .bss
    .balign 4096
    .space 65536
boot_stack_top:
    .globl catch_stack
catch_stack: .space 4
    .section .note.GNU-stack, "", @progbits
