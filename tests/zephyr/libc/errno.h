/* SPDX-License-Identifier: MIT */
/* Of a C library that a compiler for microcontrollers may come without. */
#define EINVAL 22
