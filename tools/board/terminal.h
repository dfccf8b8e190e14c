/* SPDX-License-Identifier: MIT */
/* terminal - standard input as the other end of a serial line: what is typed goes out at once, and
 * the firmware echoes it or does not. */
#ifndef BOARD_TERMINAL_H
#define BOARD_TERMINAL_H

/* Does nothing unless standard input is a terminal that this process may change. The signals that
 * end the process put it back, too. */
void terminal_open(void);
void terminal_close(void);

#endif
