/* SPDX-License-Identifier: MIT */
/*
 * The stream, its wake-ups and its overwriting in a model of weak memory.
 *
 *     stream [ITERATIONS]
 *
 * For each scenario: random schedules and random stale loads, as many as that, then the same with
 * one kind of ordering taken away. The first has to find nothing, and the second something: else
 * the model would not see what it is there for.
 */
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>

/* Defines macros called new and delete, so it comes last of the libraries. */
#include <relacy/relacy.hpp>

#include "relaxed.hpp"

#include <ivshmem/stream.h>

namespace
{

typedef rl::semaphore<struct bell_tag> bell;

const uint32_t MESSAGES = 5;

/* Sizes that fill the ring, wrap, and skip its end, where there is more than a line to skip. */
uint32_t size_of(uint32_t number)
{
	return number % 3 == 1 && !shared::racy ? 64 : 8;
}

/* Two threads, the writer and the reader. */
template <typename Scenario, uint32_t Policy> struct lane : rl::test_suite<Scenario, 2> {
	shared memory;
	ivshmem_stream stream;

	void before()
	{
		shared::current = &memory;
		shared::racy = Policy == IVSHMEM_CHANNEL_OVERWRITE;
		for (size_t i = 0; i < shared::WORDS; i++) {
			/* What is left of somebody else's, in the slots, too. */
			memory.words[i].store(i + 3, rl::mo_relaxed, $);
			memory.payload[i]($) = 0;
		}
		memory.may_go_on.store(0, rl::mo_relaxed, $);
		memory.has_stood = false;
		stream = ivshmem_stream();
		stream.lane = reinterpret_cast<volatile unsigned char *>(memory.place);
		/* A writer that overwrites comes around soon enough to meet the reader. */
		stream.lines = shared::racy ? 4 : 8;
		stream.largest = shared::racy ? 8 : 64;
		stream.policy = Policy;
		stream.key = 7;
		rl::atomic_thread_fence(rl::mo_seq_cst, $);
	}

	int write(ivshmem_writer &writer, uint32_t number)
	{
		uint32_t bytes[16];
		for (uint32_t &word : bytes)
			word = number + 1;
		return ivshmem_stream_write(&writer, bytes, size_of(number), number);
	}

	/* Whether it is a message; then it is the whole of the one that its tag says. */
	bool read(ivshmem_reader &reader, int32_t &result, uint32_t &tag)
	{
		uint32_t bytes[16];
		result = ivshmem_stream_read(&reader, bytes, sizeof(bytes), &tag);
		RL_ASSERT(result != IVSHMEM_STREAM_BROKEN && result != IVSHMEM_STREAM_TOO_BIG);
		if (result < 0)
			return false;
		RL_ASSERT(static_cast<uint32_t>(result) == size_of(tag));
		for (int32_t i = 0; i < result / 4; i++)
			RL_ASSERT(bytes[i] == tag + 1);
		return true;
	}
};

/* Both look again and again; the writer closes, and the reader ends with that. */
struct spinning : lane<spinning, IVSHMEM_CHANNEL_WAIT> {
	void thread(unsigned index)
	{
		if (index == 0) {
			ivshmem_writer writer;
			for (uint32_t i = 0; i < MESSAGES;) {
				if (i % 3 == 0) /* is killed, and begins anew */
					ivshmem_writer_attach(&writer, &stream, 1, 0);
				if (write(writer, i) == IVSHMEM_STREAM_OK)
					i++;
				else
					rl::yield(1, $);
			}
			ivshmem_writer_close(&writer);
			return;
		}
		ivshmem_reader reader;
		uint32_t next = 0, tag;
		int32_t result = 0;
		ivshmem_reader_attach(&reader, &stream, 2, 0, 0);
		while (result != IVSHMEM_STREAM_END)
			if (read(reader, result, tag))
				RL_ASSERT(tag == next++);
			else if (result == IVSHMEM_STREAM_EMPTY)
				rl::yield(1, $);
		RL_ASSERT(next == MESSAGES);
	}
};

/* Both sleep, and nobody looks again but for a doorbell: one that is lost is a deadlock. */
struct sleeping : lane<sleeping, IVSHMEM_CHANNEL_WAIT> {
	bell bells[2];

	void before()
	{
		lane::before();
		for (bell &each : bells)
			each.init(false, 0, 1000, $);
	}

	void after()
	{
		for (bell &each : bells)
			each.deinit($);
	}

	void ring(ivshmem_end &end, unsigned whom)
	{
		unsigned before;
		if (ivshmem_stream_due(&end))
			bells[whom].post(1, before, $);
	}

	void thread(unsigned index)
	{
		if (index == 0) {
			ivshmem_writer writer;
			ivshmem_writer_attach(&writer, &stream, 1, 0);
			for (uint32_t i = 0; i < MESSAGES; i++) {
				while (write(writer, i) != IVSHMEM_STREAM_OK) {
					ivshmem_writer_arm(&writer, size_of(i));
					ring(writer.end, 1);
					if (write(writer, i) == IVSHMEM_STREAM_OK)
						break;
					bells[0].wait(false, false, $);
				}
				ring(writer.end, 1);
			}
			ivshmem_writer_close(&writer);
			ring(writer.end, 1);
			return;
		}
		ivshmem_reader reader;
		uint32_t next = 0, tag;
		int32_t result = 0;
		bool armed = false;
		ivshmem_reader_attach(&reader, &stream, 2, 0, 0);
		while (result != IVSHMEM_STREAM_END) {
			if (read(reader, result, tag)) {
				RL_ASSERT(tag == next++);
				armed = false; /* for where it was then */
			} else if (result == IVSHMEM_STREAM_EMPTY && armed) {
				bells[1].wait(false, false, $);
				armed = false;
			} else if (result == IVSHMEM_STREAM_EMPTY) {
				ivshmem_reader_arm(&reader);
				armed = true;
			}
			ring(reader.end, 0);
		}
		RL_ASSERT(next == MESSAGES);
	}
};

/* The writer never waits: what the reader gets is whole, in order, and at the end the newest. */
struct overwriting : lane<overwriting, IVSHMEM_CHANNEL_OVERWRITE> {
	void thread(unsigned index)
	{
		const uint32_t messages = 2 * MESSAGES;

		if (index == 0) {
			ivshmem_writer writer;
			const uint32_t until = rl::rand(messages);
			ivshmem_writer_attach(&writer, &stream, 1, 0);
			for (uint32_t i = 0; i < messages; i++) {
				RL_ASSERT(write(writer, i) == IVSHMEM_STREAM_OK);
				if (i == until)
					memory.may_go_on.store(1, rl::mo_relaxed, $);
			}
			ivshmem_writer_close(&writer);
			return;
		}
		ivshmem_reader reader;
		uint32_t next = 0, tag;
		int32_t result = 0;
		ivshmem_reader_attach(&reader, &stream, 2, 0, 0);
		for (uint32_t i = 0; i < messages && result != IVSHMEM_STREAM_END; i++)
			if (read(reader, result, tag)) {
				RL_ASSERT(tag >= next);
				next = tag + 1;
			}
		RL_ASSERT(result != IVSHMEM_STREAM_END || next == messages);
	}
};

/* Run it, weakened so; whether that is noticed. */
template <typename Scenario> bool fails(weakness weak, unsigned iterations)
{
	static std::ofstream nowhere("/dev/null"); /* made here: Relacy replaces operator new */
	rl::test_params params;

	shared::weak = weak;
	params.iteration_count = iterations;
	params.search_type = rl::random_scheduler_type;
	params.execution_depth_limit = 20000;
	params.output_stream = weak == NOTHING ? &std::cout : &nowhere;
	params.progress_stream = &nowhere;
	return !rl::simulate<Scenario>(params);
}

int errors;

void expect(bool holds, const char *scenario, const char *what)
{
	printf("%s, %s: %s\n", scenario, what, holds ? "ok" : "NOT SO");
	errors += !holds;
}

template <typename Scenario>
void check(const char *name, std::initializer_list<weakness> needed, unsigned iterations)
{
	static const char *const names[] = {"nothing wrong", "without release", "without acquire",
		"without fences", "without order"};

	expect(!fails<Scenario>(NOTHING, iterations), name, names[NOTHING]);
	for (weakness weak : needed)
		expect(fails<Scenario>(weak, iterations * 10), name, names[weak]);
}

} // namespace

int main(int argc, char **argv)
{
	const unsigned iterations = argc > 1 ? static_cast<unsigned>(atoi(argv[1])) : 20000;

	check<spinning>("spinning", {RELEASE, ACQUIRE}, iterations);
	check<sleeping>("sleeping", {RELEASE, ACQUIRE, FENCE}, iterations);
	check<overwriting>("overwriting", {ACQUIRE, RELEASE, ORDER}, iterations);
	return errors != 0;
}
