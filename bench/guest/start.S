/* Entry of the bare-metal benchmark guests: multiboot 1, 32-bit protected mode, no paging, one stack. */
    .section .multiboot, "a"
    .align 4
    .long 0x1badb002, 0, -0x1badb002

    .section .text
    .globl _start
_start:
    mov $stack_top, %esp
    call main
    mov $0xf4, %dx              /* isa-debug-exit */
    out %eax, %dx
1:  hlt
    jmp 1b

    .bss
    .align 16
    .space 65536
stack_top:
    .section .note.GNU-stack, "", @progbits
