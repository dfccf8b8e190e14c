/* SPDX-License-Identifier: MIT */
/*
 * What is kept of a device, of unknown origin: it is refused with a reason, and nothing is taken
 * over, or it is taken over and the device can be used: what the checks let pass does no harm. The
 * same for the state of a device alone.
 *
 * Input: first byte: bit 0 INTx instead of MSI-X, bit 1 what follows is the state of a device
 * alone, bit 2 a holder that has nothing. Then the parts of the memory, one after the other: the
 * header, marks of rings, numbers, states, the first 256 bytes of what was sent and of what has
 * come. What is missing stays as a process has left it that had served a VMM.
 */
#include "vfio-user/connection.h"
#include "vfio-user/kept_state.h"

#include <ivshmem/device.h>

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define VECTORS 2u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INTX = 1, ALONE = 2, FORGETFUL = 4 };

static uint8_t memory[65536]; /* of BAR2 */
static int an_eventfd = -1;

static void ignore_ring(void *data, unsigned peer, unsigned vector)
{
	(void)data;
	(void)peer;
	(void)vector;
}

static int put(void *data, uint64_t number, const int *fds, size_t n)
{
	(void)data;
	(void)number;
	(void)fds;
	(void)n;
	return 0;
}

static int take(void *data, uint64_t number, int *fds, size_t max)
{
	const bool *forgetful = data;
	(void)number;
	(void)max;
	if (*forgetful)
		return 0;
	fds[0] = dup(an_eventfd);
	return 1;
}

static void let_go(void *data, uint64_t number)
{
	(void)data;
	if (number == 0)
		abort(); /* that is none */
}

static struct vfu_kept_identity identity_of(bool intx)
{
	return (struct vfu_kept_identity){
		.type = intx ? VFU_LEGACY : VFU_DOORBELL,
		.vectors = VECTORS,
		.msi = !intx,
		.bar_size = sizeof(memory),
	};
}

static void set_up(struct vfu_function *function, bool intx)
{
	const struct vfu_function_config config = {
		.revision = intx ? 0 : 1,
		.vectors = intx ? 0 : VECTORS,
		.bar_size = sizeof(memory),
		.memory = {.address = memory, .size = sizeof(memory), .fd = an_eventfd},
		.ring = ignore_ring,
	};
	if (vfu_function_init(function, &config) < 0)
		abort();
}

static int lowest_free_fd(void)
{
	int fd = dup(an_eventfd);
	close(fd);
	return fd;
}

/* A VMM is there and has set up its interrupts. */
static void leave_behind(void *kept_memory, struct vfu_holder *holder, bool intx)
{
	const struct vfu_kept_identity identity = identity_of(intx);
	struct vfu_kept_state state;
	struct vfu_function function;
	struct vfu_kept *kept;

	if (vfu_kept_create(&kept, kept_memory, &identity, holder) < 0)
		abort();
	vfu_kept_attach(kept, 1);
	vfu_kept_destroy(kept);
	vfu_kept_lay_out(&state, kept_memory, VECTORS);
	set_up(&function, intx);
	for (unsigned i = 0; i < 2; i++) {
		ivshmem_pci_save(function.pci, state.cores[i]);
		for (unsigned slot = 0; slot < vfu_irqs_slots(intx ? 0 : VECTORS); slot++)
			state.irqs[i][slot] = slot + 1;
	}
	vfu_function_fini(&function);
	state.header->last_number = VECTORS + 3;
	struct vfu_kept_block *block = vfu_kept_current(&state);
	block->numbered = VECTORS + 3;
	block->core = block->irqs = 1;
	block->agreed = 1;
}

static const uint8_t *pour(const uint8_t *from, const uint8_t *end, void *to, size_t size)
{
	if (size > (size_t)(end - from))
		size = (size_t)(end - from);
	if (size > 0)
		memcpy(to, from, size);
	return from + size;
}

static void fill(const struct vfu_kept_state *state, const uint8_t *data, size_t size)
{
	const uint8_t *end = data + size;

	data = pour(data, end, state->header, sizeof(*state->header));
	data = pour(data, end, state->heard, VECTORS * sizeof(*state->heard));
	for (unsigned i = 0; i < 2; i++) {
		data = pour(data, end, state->irqs[i], vfu_irqs_slots(VECTORS) * sizeof(uint64_t));
		data = pour(data, end, state->cores[i], ivshmem_pci_saved_size(VECTORS));
	}
	data = pour(data, end, state->out, 256);
	(void)pour(data, end, state->in, 256);
}

/* Whatever was taken over: the VMM says something, is answered, and goes. */
static void use(struct vfu_connection *connection, struct vfu_function *function, int vmm)
{
	static const struct vfu_header reset = {
		.command = VFU_RESET, .size = sizeof(reset), .id = 1};
	uint8_t bytes[1024];

	for (unsigned i = 0; i < 4; i++) {
		if (vfu_connection_ready(connection, NULL) == VFU_WAIT_OVER)
			break;
		vfu_function_interrupt(function, i);
		vfu_irqs_resampled(&function->irqs);
		if (send(vmm, &reset, sizeof(reset), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			break;
		while (recv(vmm, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
			;
	}
}

static void go_on(struct vfu_kept *kept, bool intx)
{
	struct vfu_function function;
	struct vfu_connection *connection;
	struct vfu_why why = {""};
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0)
		abort();
	set_up(&function, intx);
	function.kept = kept;
	if (vfu_connection_resume(&connection, pair[0], &function, "fuzz", NULL, &why) == 0) {
		use(connection, &function, pair[1]);
		vfu_connection_destroy(connection);
	} else {
		if (why.text[0] == '\0' || close(pair[0]) < 0)
			abort();
	}
	vfu_function_release(&function);
	vfu_kept_detach(kept);
	vfu_function_fini(&function);
	close(pair[1]);
}

static void resume(const uint8_t *data, size_t size, uint8_t what)
{
	bool forgetful = what & FORGETFUL, intx = what & INTX;
	const struct vfu_kept_identity identity = identity_of(intx);
	struct vfu_holder holder = {.put = put, .take = take, .drop = let_go, .data = &forgetful};
	struct vfu_kept_state state;
	struct vfu_kept *kept;
	struct vfu_why why = {""};
	size_t memory_size = vfu_kept_size(VECTORS);
	void *kept_memory = aligned_alloc(4096, memory_size);

	if (!kept_memory)
		abort();
	memset(kept_memory, 0, memory_size);
	leave_behind(kept_memory, &holder, intx);
	vfu_kept_lay_out(&state, kept_memory, VECTORS);
	fill(&state, data, size);
	if (vfu_kept_resume(&kept, kept_memory, memory_size, &identity, &holder, &why) == 0) {
		if (vfu_kept_attached(kept) != 0)
			go_on(kept, intx);
		vfu_kept_destroy(kept);
	} else if (why.text[0] == '\0') {
		abort();
	}
	free(kept_memory);
}

/* The device alone: what was loaded is saved as it was; what was not has changed nothing. */
static void load(const uint8_t *data, size_t size, bool intx)
{
	struct vfu_function function;
	uint8_t before[1024], after[1024];

	set_up(&function, intx);
	size_t saved = ivshmem_pci_saved_size(intx ? 0 : VECTORS);
	if (saved > sizeof(before))
		abort();
	ivshmem_pci_save(function.pci, before);
	const char *wrong = ivshmem_pci_load(function.pci, data, size);
	ivshmem_pci_save(function.pci, after);
	if (wrong ? memcmp(before, after, saved) != 0 : memcmp(data, after, saved) != 0)
		abort();
	for (unsigned i = 0; i < VECTORS; i++)
		vfu_function_interrupt(&function, i);
	ivshmem_pci_reset(function.pci);
	if (ivshmem_pci_line(function.pci))
		abort();
	vfu_function_fini(&function);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	if (an_eventfd < 0)
		an_eventfd = eventfd(0, EFD_NONBLOCK);
	int free_fd = lowest_free_fd();
	if (data[0] & ALONE)
		load(data + 1, size - 1, data[0] & INTX);
	else
		resume(data + 1, size - 1, data[0]);
	if (lowest_free_fd() != free_fd)
		abort();
	return 0;
}
