# Boot sector that proves a virtual CPU: real-mode interrupts, then 64-bit mode with paging, then exit by port 0xf4.
# Build: as --32 -o probe.o probe.S && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o probe.bin probe.o
        .code16
        .globl _start
_start:
        cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7c00, %sp
        sti
        movw    $2, %cx
ticks:  hlt                             # two interrupts (the BIOS timer ticks 18.2 times a second)
        loop    ticks
        cli
        movw    $0x1000, %di            # page tables at 0x1000, 0x2000, 0x3000: the first 2 MiB, identity
        movl    $0x1000, %eax
        movl    %eax, %cr3
        xorl    %eax, %eax
        movw    $3072, %cx
        rep stosl
        movl    $0x2003, 0x1000
        movl    $0x3003, 0x2000
        movl    $0x0083, 0x3000
        movl    $0xa0, %eax             # CR4: PAE, PGE
        movl    %eax, %cr4
        movl    $0xc0000080, %ecx       # EFER: long mode
        rdmsr
        orl     $0x100, %eax
        wrmsr
        lgdt    gdtr
        movl    %cr0, %eax
        orl     $0x80000001, %eax       # CR0: paging, protection
        movl    %eax, %cr0
        ljmp    $8, $long
        .code64
long:   movw    $0xf4, %dx
        movb    $0x10, %al
        outb    %al, %dx
stop:   hlt
        jmp     stop
        .balign 8
gdt:    .quad   0
        .quad   0x00209a0000000000      # 64-bit code
gdtr:   .word   15
        .long   gdt
        .org    510
        .word   0xaa55
