// Runs the threads of the emulation: fibers, or OS threads with -DDC_EMU_THREADS.
// SPDX-License-Identifier: Apache-2.0
#ifdef DC_EMU_THREADS
#include "emu_threads.h"
#else
#include "emu_fibers.h"

#ifndef __x86_64__
#error "fibers are written for x86-64; compile with -DDC_EMU_THREADS"
#endif
// Switches stacks: saves the six registers a call preserves, and leaves by a jump rather than a return, which the
// branch predictor would expect to go back where this was called from.
asm(R"(
.text
.globl dcemu_switch
.type dcemu_switch,@function
dcemu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
.size dcemu_switch,.-dcemu_switch
)");
#endif
