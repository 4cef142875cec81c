# The smallest guest that behaves: says "up" on its console, powers off when the power button is pressed or when it
# reads "q" from its console, and sleeps otherwise.
# Build: as --32 -o guest.o guest.S && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o guest.bin guest.o
        .code16
        .globl _start
        .set    uart, 0x3f8
        .set    pm, 0x600               # where SeaBIOS puts the PIIX4's power management (PM1_STS, PM1_EN, PM1_CNT)
_start:
        cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movw    $0x7c00, %sp
        movw    $pm + 2, %dx
        movw    $0x100, %ax             # PM1_EN: power button
        outw    %ax, %dx
        movw    $text, %si
say:    lodsb
        testb   %al, %al
        jz      1f
        movw    $uart, %dx
        outb    %al, %dx
        jmp     say
1:      sti
sleep:  hlt                             # the BIOS timer ticks 18.2 times a second
        movw    $pm, %dx
        inw     %dx, %ax
        testb   $1, %ah                 # PM1_STS: power button pressed
        jnz     off
        movw    $uart + 5, %dx
        inb     %dx, %al
        testb   $1, %al                 # a byte has come
        jz      sleep
        movw    $uart, %dx
        inb     %dx, %al
        cmpb    $'q', %al
        jne     sleep
off:    movw    $pm + 4, %dx
        movw    $0x2000, %ax            # PM1_CNT: sleep, type 0 is S5
        outw    %ax, %dx
        jmp     sleep
text:   .asciz  "up\r\n"
        .org    510
        .word   0xaa55
