/* SPDX-License-Identifier: MIT */
#include "terminal.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <termios.h>
#include <unistd.h>

/* For a signal handler, which has nothing else. */
static struct termios saved;
static volatile sig_atomic_t changed;

/* A process in the background must leave the terminal to others, and would be stopped by touching
 * it. */
static bool in_foreground(void)
{
	return tcgetpgrp(STDIN_FILENO) == getpgrp();
}

void terminal_close(void)
{
	if (changed && in_foreground())
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	changed = false;
}

/* The disposition is the default one again by now. */
static void on_signal(int number)
{
	terminal_close();
	raise(number);
}

void terminal_open(void)
{
	static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
	struct sigaction action = {
		.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | SA_NODEFER};
	struct sigaction inherited;

	if (!in_foreground() || tcgetattr(STDIN_FILENO, &saved) < 0)
		return;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (sigaction(signals[i], NULL, &inherited) == 0 && inherited.sa_handler != SIG_IGN)
			sigaction(signals[i], &action, NULL);
	struct termios raw = saved;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	changed = true;
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}
