/* SPDX-License-Identifier: MIT */
/*
 * Where the guest begins, and where interrupts arrive.
 *
 * The loader (PVH, as of Xen) has left us in 32-bit protected mode with flat segments, paging off
 * and the address of its information in %ebx.
 *
 * Theory of operation: the way back from an interrupt. iret is what one uses, but the instruction
 * emulator through which some KVMs run a guest without paging has no protected-mode iret. A far
 * return does the same where the privilege level doesn't change. Interrupts are taken only while
 * they are enabled, so %eflags is restored without that bit and sti sets it: it holds interrupts
 * off for one more instruction, the return, so that they can't pile up on the stack.
 */
#define NOTE_PHYS32_ENTRY 18
#define FLAG_INTERRUPTS   0x200
#define CODE              0x08
#define DATA              0x10

	.section .note.pvh, "a", @note
	.balign 4
	.long 4, 4, NOTE_PHYS32_ENTRY
	.asciz "Xen"
	.long start

	.text
	.globl start
start:
	cli
	cld
	movl $stack_end, %esp
	xorl %eax, %eax
	movl $bss_start, %edi
	movl $bss_end, %ecx
	subl %edi, %ecx
	rep stosb

	lgdt gdt_pointer
	ljmp $CODE, $1f
1:	movl $DATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %fs
	movl %eax, %gs
	movl %eax, %ss
	pushl %ebx
	call bare_main

	/* One entry of 16 bytes for each of the 256 vectors. */
	.balign 16
	.globl interrupt_entries
interrupt_entries:
	vector = 0
	.rept 256
	.balign 16
	pushl $vector
	jmp interrupt_common
	vector = vector + 1
	.endr

interrupt_common:
	pushal
	cld
	pushl 32(%esp)
	call interrupt
	addl $4, %esp
	popal
	addl $4, %esp
	pushl 8(%esp)
	andl $~FLAG_INTERRUPTS, (%esp)
	popfl
	sti
	lret $4

	.section .rodata
	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff
	.quad 0x00cf93000000ffff
gdt_pointer:
	.word . - gdt - 1
	.long gdt

	.bss
	.balign 16
	.skip 16384
stack_end:

	.section .note.GNU-stack, "", @progbits
