/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in model: client/worker/tiny/tiny.gguf as it is, in read-only data. */
	.section .rodata, "a", %progbits
	.balign 64
	.globl worker_tiny_begin
	.hidden worker_tiny_begin
worker_tiny_begin:
	.incbin WORKER_TINY_PATH
	.globl worker_tiny_end
	.hidden worker_tiny_end
worker_tiny_end:
	.byte 0
	.section .note.GNU-stack, "", %progbits
