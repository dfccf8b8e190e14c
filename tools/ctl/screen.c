/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. Regions above, the peers of the chosen region below. Keys are waited for
 * between two samples, and a key redraws what is there; only time takes a new sample. Doorbells go
 * from peer to peer, and the server may see them or not: where it has seen none, the column does
 * not say 0.
 */
#include "screen.h"

#include "show.h"
#include "text.h"

#include "base/clock.h"

#include <curses.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FIRST_ROW 4

struct screen {
	const struct ctl *ctl;
	struct sample sample;
	size_t chosen; /* region */
	size_t first;  /* peer that is shown */
};

/* As wide as it may be, without control characters. */
static void print_text(int width, const char *text)
{
	char shown[TEXT_SIZE];
	size_t n = 0;
	for (; n < sizeof(shown) - 1 && text[n]; n++) {
		shown[n] = text[n];
		if ((unsigned char)text[n] < ' ' || text[n] == '\x7f')
			shown[n] = '?';
	}
	shown[n] = '\0';
	printw("%-*.*s ", width, width, shown);
}

static void print_rate(json_t *region, const char *name)
{
	json_t *rate = json_object_get(region, name);
	if (rate)
		printw("%10.1f ", json_real_value(rate));
	else
		printw("%10s ", "-");
}

static void print_doorbells(json_t *object)
{
	json_t *rate = json_object_get(object, "doorbells_per_s");
	if (rate)
		printw("%14.1f ", json_real_value(rate));
	else if (json_object_get(object, "doorbells_seen"))
		printw("%14s ", "none seen");
	else
		printw("%14s ", "not observable");
}

static void draw_region(json_t *region)
{
	char size[TEXT_SIZE];

	print_text(20, get_text(region, "name"));
	printw("%6s ",
		text_size((uint64_t)get_number(json_object_get(region, "memory"), "size"), size));
	printw("%6" PRId64 " ", get_number(region, "peers"));
	print_rate(region, "joins_per_s");
	print_rate(region, "leaves_per_s");
	print_rate(region, "messages_per_s");
	printw("%7" PRId64 " ", get_number(region, "queued"));
	print_doorbells(region);
	printw("%s", show_state(region));
}

static void draw_peer(json_t *peer, int64_t now)
{
	json_t *identity = json_object_get(peer, "identity");
	char user[TEXT_SIZE], age[TEXT_SIZE];

	printw("%5" PRId64 " ", get_number(peer, "id"));
	print_text(12, show_user(identity, user));
	printw("%8" PRId64 " ", get_number(identity, "pid"));
	print_text(20, show_program(identity));
	print_text(10, show_access(peer));
	print_text(8, get_text(peer, "state"));
	printw("%7" PRId64 " %9" PRId64 " ", get_number(peer, "queued"), get_number(peer, "sent"));
	print_doorbells(peer);
	printw("%s", text_age(get_number(peer, "joined"), now, age));
}

/* How many rows the regions get: at most half. */
static int draw_regions(const struct screen *screen)
{
	size_t n = json_array_size(screen->sample.regions), most = (size_t)(LINES - FIRST_ROW) / 2;
	size_t rows = n < most ? n : most;
	size_t first = screen->chosen < rows ? 0 : screen->chosen - rows + 1;

	attron(A_BOLD);
	mvprintw(FIRST_ROW - 1, 0, "%-20s %6s %6s %10s %10s %10s %7s %14s %s", "REGION", "SIZE",
		"PEERS", "JOINS/S", "LEAVES/S", "MESSAGES/S", "QUEUE", "DOORBELLS/S", "STATE");
	attroff(A_BOLD);
	for (size_t i = 0; i < rows; i++) {
		move(FIRST_ROW + (int)i, 0);
		if (first + i == screen->chosen)
			attron(A_REVERSE);
		draw_region(json_array_get(screen->sample.regions, first + i));
		attroff(A_REVERSE);
	}
	return (int)rows;
}

static void draw_peers(const struct screen *screen, int top)
{
	json_t *region = json_array_get(screen->sample.regions, screen->chosen), *peer;
	const char *name = get_text(region, "name");
	size_t i, skipped = 0;
	int row = top + 1;

	attron(A_BOLD);
	mvprintw(top, 0, "%5s %-12s %8s %-20s %-10s %-8s %7s %9s %14s %s", "ID", "USER", "PID",
		"PROGRAM", "ACCESS", "STATE", "QUEUE", "SENT", "DOORBELLS/S", "JOINED");
	attroff(A_BOLD);
	json_array_foreach (screen->sample.peers, i, peer) {
		if (strcmp(get_text(peer, "region"), name) != 0 || skipped++ < screen->first)
			continue;
		if (row >= LINES)
			break;
		move(row++, 0);
		draw_peer(peer, screen->sample.time);
	}
}

static void draw(const struct screen *screen)
{
	char clock[TEXT_SIZE];

	erase();
	mvprintw(0, 0, "ivshmem-server at %s, %s: %zu regions, %zu peers", screen->ctl->socket,
		text_clock(screen->sample.time, clock), json_array_size(screen->sample.regions),
		json_array_size(screen->sample.peers));
	mvprintw(1, 0, "up/down: region   page up/down: peers   q: quit");
	int rows = draw_regions(screen);
	draw_peers(screen, FIRST_ROW + rows + 1);
	refresh();
}

/* False: quit. */
static bool handle_key(struct screen *screen, int key)
{
	size_t page = (size_t)LINES / 4, n = json_array_size(screen->sample.regions);

	if (key == KEY_UP && screen->chosen > 0)
		screen->chosen--;
	else if (key == KEY_DOWN && screen->chosen + 1 < n)
		screen->chosen++;
	else if (key == KEY_NPAGE)
		screen->first += page;
	else if (key == KEY_PPAGE)
		screen->first -= screen->first < page ? screen->first : page;
	if (key == KEY_UP || key == KEY_DOWN)
		screen->first = 0;
	return key != 'q';
}

/* Handle keys until it is time for the next sample. False: quit. */
static bool wait_with_keys(struct screen *screen, uint64_t until)
{
	for (int left; (left = deadline_left(until)) > 0;) {
		timeout(left);
		int key = getch();
		if (key == ERR)
			continue;
		if (!handle_key(screen, key))
			return false;
		draw(screen);
	}
	return true;
}

int screen_run(struct ctl *ctl)
{
	struct screen screen = {.ctl = ctl, .sample = SAMPLE_INIT};
	int result = sample_take(ctl, &screen.sample);
	if (result != 0)
		goto out;

	initscr();
	cbreak();
	noecho();
	keypad(stdscr, TRUE);
	curs_set(0);
	do {
		size_t n = json_array_size(screen.sample.regions);
		if (screen.chosen >= n)
			screen.chosen = n > 0 ? n - 1 : 0;
		draw(&screen);
	} while (wait_with_keys(&screen, deadline_after(ctl->interval_ms)) &&
		(result = sample_take(ctl, &screen.sample)) == 0);
	endwin();
	if (result != 0)
		fprintf(stderr, CTL_PROGRAM ": lost the server at %s\n", ctl->socket);
out:
	sample_fini(&screen.sample);
	return result;
}
