"""Boot sectors that move things on the screen."""

import subprocess

# Both wait for the BIOS's clock, 18.2 times a second, between steps.
COMMON = """
.code16
.globl _start
_start: xor %ax,%ax; mov %ax,%ds; mov %ax,%ss; mov $0x7c00,%sp; cld
"""
PROGRAMS = {
    "scroll": COMMON + """
next:   mov $3,%di
line:   mov $70,%cx
char:   imul $25173,%bp,%bp; add $13849,%bp; mov %bp,%ax; mov %ah,%al; and $63,%al; add $33,%al; mov $0x0e,%ah; mov $7,%bx; int $0x10; loop char
        mov $0x0e0d,%ax; int $0x10; mov $0x0e0a,%ax; int $0x10; dec %di; jnz line
        mov 0x46c,%ax
wait:   cmp 0x46c,%ax; je wait; jmp next
""",
    "window": COMMON + """
        mov $0x13,%ax; int $0x10; mov $0xa000,%ax; mov %ax,%es
        xor %di,%di; mov $64000,%cx
paper:  mov %di,%ax; shr $4,%ax; and $3,%al; add $16,%al; stosb; loop paper
        xor %bp,%bp
next:   mov $60,%dx; mov %bp,%di; add $19200,%di
row:    push %di; mov $100,%cx
dot:    mov %cl,%al; xor %dl,%al; and $31,%al; add $32,%al; stosb; loop dot
        pop %di; movb $17,%es:-1(%di); movb $17,%es:-2(%di); add $320,%di; dec %dx; jnz row
        add $2,%bp; cmp $200,%bp; jb tick; xor %bp,%bp
tick:   mov 0x46c,%ax
wait:   cmp 0x46c,%ax; je wait; jmp next
""",
}


def boot_sector(folder, name):
    """Assembles a program into the first sector of a disk."""
    path = f"{folder}/{name}"
    subprocess.run(["as", "--32", "-o", path + ".o", "-"], input=PROGRAMS[name].encode(), check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-o", path, path + ".o"], check=True,
                   stderr=subprocess.DEVNULL)
    with open(path, "rb") as file:
        code = file.read()
    assert len(code) <= 510, len(code)
    with open(path, "wb") as file:
        file.write(code.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    return path
