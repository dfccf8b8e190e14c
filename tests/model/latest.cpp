/* SPDX-License-Identifier: MIT */
/*
 * The latest value in a model of weak memory.
 *
 *     latest [ITERATIONS]
 *
 * A writer sets values faster than the reader copies them, through two lives, each of which closes.
 * What the reader gets is whole, never older than before, and the last one of a life at its end.
 * Then the same with each access in turn deprived of its order, which has to be noticed.
 *
 * Readers write nothing, so one of them stands for any number.
 */
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>

/* Defines macros called new and delete, so it comes last of the libraries. */
#include <relacy/relacy.hpp>

#include "relaxed.hpp"

#include <ivshmem/latest.h>

namespace
{

const uint32_t FIRST = 3, ALL = 7; /* values of the first life, and of both */

struct setting : rl::test_suite<setting, 2> {
	shared memory;
	ivshmem_channel channel;
	uint32_t first; /* generation of the first life */

	void before()
	{
		shared::current = &memory;
		shared::racy = true;
		for (size_t i = 0; i < shared::WORDS; i++) {
			/* What is left of somebody else's, in the slots, too. */
			memory.words[i].store(i + 3, rl::mo_relaxed, $);
			memory.payload[i]($) = 0;
		}
		memory.may_go_on.store(0, rl::mo_relaxed, $);
		memory.has_stood = false;
		channel = ivshmem_channel();
		channel.shape = IVSHMEM_CHANNEL_LATEST;
		channel.lanes = 1;
		channel.lines = 4; /* each is a cell */
		channel.largest = 8;
		channel.key = 7;
		rl::atomic_thread_fence(rl::mo_seq_cst, $);
	}

	void set(ivshmem_latest_writer &writer, uint32_t from, uint32_t to, uint32_t until)
	{
		ivshmem_latest_writer_attach(&writer, &channel, memory.place, 0, 1);
		for (uint32_t i = from; i < to; i++) {
			const uint32_t bytes[] = {i + 1, i + 1};
			RL_ASSERT(ivshmem_latest_write(&writer, bytes, 8, i + 1) ==
				IVSHMEM_LATEST_OK);
			if (i == until)
				memory.may_go_on.store(1, rl::mo_relaxed, $);
		}
	}

	void thread(unsigned index)
	{
		if (index == 0) {
			ivshmem_latest_writer writer;
			const uint32_t until = rl::rand(ALL);
			set(writer, 0, FIRST, until);
			first = writer.generation;
			if (rl::rand(2) == 0) /* else it is cut off */
				ivshmem_latest_writer_close(&writer);
			set(writer, FIRST, ALL, until);
			ivshmem_latest_writer_close(&writer);
			return;
		}
		ivshmem_latest_reader reader;
		uint32_t got = 0, begins = 0, tag;
		ivshmem_latest_reader_attach(&reader, &channel, memory.place, 0, 0);
		while (got != ALL || reader.ended == 0) {
			uint32_t bytes[2];
			const int32_t result =
				ivshmem_latest_next(&reader, bytes, sizeof(bytes), &tag);
			RL_ASSERT(result != IVSHMEM_LATEST_BROKEN);
			RL_ASSERT(result != IVSHMEM_LATEST_TOO_BIG);
			if (result >= 0) {
				RL_ASSERT(result == 8 && tag > got && tag <= ALL);
				RL_ASSERT(bytes[0] == tag && bytes[1] == tag);
				got = tag;
			} else if (result == IVSHMEM_LATEST_BEGIN) {
				RL_ASSERT(++begins <= 2);
			} else if (result == IVSHMEM_LATEST_END) {
				/* Of the second life it is no end before its last value. */
				RL_ASSERT(got == ALL || (got == FIRST && reader.life == first));
			} else {
				rl::yield(1, $);
			}
		}
	}
};

/* Run it, weakened so; whether that is noticed. */
bool fails(weakness weak, size_t where, unsigned iterations)
{
	static std::ofstream nowhere("/dev/null"); /* made here: Relacy replaces operator new */
	rl::test_params params;

	shared::weak = weak;
	shared::where = where;
	params.iteration_count = iterations;
	params.search_type = rl::random_scheduler_type;
	params.execution_depth_limit = 20000;
	params.output_stream = weak == NOTHING ? &std::cout : &nowhere;
	params.progress_stream = &nowhere;
	return !rl::simulate<setting>(params);
}

struct trial {
	weakness weak;
	size_t where;
	const char *what;
};

const size_t POSITION = 0, GENERATION = 4, STATE = 5, KEY = 8;

const trial trials[] = {
	{RELEASE, POSITION, "without release of the position"},
	{ACQUIRE, POSITION, "without acquire of the position"},
	{RELEASE, GENERATION, "without release of the generation"},
	{ACQUIRE, GENERATION, "without acquire of the generation"},
	{RELEASE, STATE, "without release of the state"},
	{ACQUIRE, STATE, "without acquire of the state"},
	{RELEASE, KEY, "without release of the key"},
	{ACQUIRE, KEY, "without acquire of the key"},
	{ORDER, 0, "without the writer's order"},
	{ORDER, 1, "without the reader's order"},
};

} // namespace

int main(int argc, char **argv)
{
	const unsigned iterations = argc > 1 ? static_cast<unsigned>(atoi(argv[1])) : 20000;
	int errors = fails(NOTHING, shared::EVERYWHERE, iterations);

	printf("nothing wrong: %s\n", errors == 0 ? "ok" : "NOT SO");
	for (const trial &each : trials) {
		const bool noticed = fails(each.weak, each.where, iterations * 10);
		printf("%s: %s\n", each.what, noticed ? "noticed" : "NOT NOTICED");
		errors += !noticed;
	}
	return errors != 0;
}
