/* SPDX-License-Identifier: MIT */
/* Every system call and allocation of a connection fails once: nothing leaks, nothing crashes, and
 * the same device serves the next VMM. Likewise of a device that outlives its process, and of its
 * take-over. */
#include "../common/fdcheck.h"
#include "../common/vfukept.h"
#include "fault.h"

#include "base/fdpass.h"
#include "vfio-user/connection.h"

#include <sys/socket.h>

/* What a VMM says, with descriptors to some of it. */
struct script {
	uint8_t bytes[1024];
	struct {
		size_t size;
		bool with_fd;
	} messages[16];
	size_t n, size;
};

static void say(struct script *script, unsigned command, const void *payload, size_t size, bool fd)
{
	size_t added = vfubox_message(script->bytes + script->size, 1, command, 0, payload, size);
	script->messages[script->n].size = added;
	script->messages[script->n++].with_fd = fd;
	script->size += added;
}

static void say_set_irqs(struct script *script, uint32_t action, uint32_t index, bool fd)
{
	const struct vfu_set_irqs set = {sizeof(set), VFU_DATA_EVENTFD | action, index, 0, 1};
	say(script, VFU_SET_IRQS, &set, sizeof(set), fd);
}

static void write_script(struct script *script)
{
	const struct vfu_version version = {0, 0};
	const struct vfu_dma_map map = {.argsz = sizeof(map)};
	const struct vfu_region_info info = {.argsz = sizeof(info), .index = IVSHMEM_BAR_MEMORY};
	const struct vfu_region_access access = {0, IVSHMEM_BAR_MEMORY, 64};
	static const uint8_t enable[18] = {
		BOX_MSIX_CONTROL, [8] = VFU_REGION_CONFIG, [12] = 2, [17] = BOX_MSIX_ENABLE >> 8};

	script->n = script->size = 0;
	say(script, VFU_VERSION, &version, sizeof(version), false);
	say(script, VFU_DMA_MAP, &map, sizeof(map), true);
	say(script, VFU_GET_REGION_INFO, &info, sizeof(info), false);
	say(script, VFU_REGION_WRITE, enable, sizeof(enable), false);
	say_set_irqs(script, VFU_ACTION_TRIGGER, VFU_ERR, true);
	say_set_irqs(script, VFU_ACTION_TRIGGER, VFU_MSIX, true);
	say_set_irqs(script, VFU_ACTION_TRIGGER, VFU_INTX, true);
	say_set_irqs(script, VFU_ACTION_UNMASK, VFU_INTX, true);
	say(script, VFU_REGION_READ, &access, sizeof(access), false);
	say_set_irqs(script, VFU_ACTION_TRIGGER, VFU_MSIX, false);
	say(script, VFU_RESET, NULL, 0, false);
}

/* The VMM's side is a part of the test: it doesn't take part in the fault. Descriptor 0 stands for
 * any. */
static void forget_replies(int sock)
{
	uint8_t bytes[4096];
	int fds[FDPASS_RECV_MAX];
	size_t n_fds;

	while (fdpass_recv(sock, bytes, sizeof(bytes), fds, &n_fds) > 0) {
		while (n_fds > 0)
			close(fds[--n_fds]);
	}
}

struct state {
	struct vfubox box;
	struct script script;
	struct keptbox keptbox; /* if the function is kept */
	int vmm, device, an_eventfd;
};

/* Messages `from` up to but not including `to`: was each of them handled, and does the connection
 * live? */
static bool talk(struct state *state, struct vfu_connection *connection, size_t from, size_t to)
{
	const struct script *script = &state->script;
	enum vfu_wait wait = VFU_WAIT_READ;
	size_t at = 0;
	unsigned handled = 0, requests;

	for (size_t i = 0; i < to && wait == VFU_WAIT_READ; at += script->messages[i++].size) {
		if (i < from)
			continue;
		if (fdpass_send(state->vmm, script->bytes + at, script->messages[i].size,
			    script->messages[i].with_fd ? state->an_eventfd : -1) < 0)
			break;
		wait = vfu_connection_ready(connection, &requests);
		handled += requests;
		vfu_function_interrupt(&state->box.function, 0);
		vfu_irqs_resampled(&state->box.function.irqs);
	}
	return wait == VFU_WAIT_READ && handled == to - from;
}

/* All of the dialogue; 0 if the connection lived to its end. */
static int serve(struct state *state)
{
	struct vfu_kept *kept = state->box.function.kept;
	struct vfu_connection *connection;

	if (kept)
		vfu_kept_attach(kept, 1);
	if (vfu_connection_create(&connection, state->device, &state->box.function, "fault", NULL) <
		0)
		return -1;
	state->device = -1;
	bool all = talk(state, connection, 0, state->script.n);
	vfu_connection_destroy(connection);
	vfu_function_release(&state->box.function);
	if (kept)
		vfu_kept_detach(kept);
	return all ? 0 : -1;
}

static int connect_vmm(struct state *state)
{
	int ends[2];

	state->an_eventfd = eventfd(0, EFD_NONBLOCK);
	if (state->an_eventfd < 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0) {
		close(state->an_eventfd);
		return -1;
	}
	state->device = ends[0];
	state->vmm = ends[1];
	return 0;
}

static void disconnect_vmm(struct state *state)
{
	if (state->device >= 0)
		close(state->device);
	forget_replies(state->vmm);
	close(state->vmm);
	close(state->an_eventfd);
}

static int one_vmm(void *data)
{
	struct state *state = data;

	if (connect_vmm(state) < 0)
		return -1;
	int result = serve(state);
	disconnect_vmm(state);
	return result;
}

/* Also the function's own allocations. */
static int one_device(void *data)
{
	struct state *state = data;

	if (vfubox_up(&state->box, 0, 0, 0) < 0)
		return -1;
	vfu_function_fini(&state->box.function);
	if (vfubox_up(&state->box, 1, 8, 0) < 0)
		return -1;
	int result = one_vmm(state);
	vfu_function_fini(&state->box.function);
	return result;
}

static void test_a_connection_survives_any_failure(void **unused)
{
	(void)unused;
	static struct state state;

	write_script(&state.script);
	/* The same device for all of them: what is left of one VMM would show at the next. */
	assert_int_equal(vfubox_up(&state.box, 1, 8, 0), 0);
	unsigned faults = fault_sweep(one_vmm, &state);
	vfu_function_fini(&state.box.function);
	/* At the least, each request is read and answered. */
	assert_true(faults >= 2 * state.script.n);
}

static void kept_up(struct state *state)
{
	assert_int_equal(vfubox_up(&state->box, 1, 8, 0), 0);
	keptbox_up(&state->keptbox, 1, 8);
	state->box.function.kept = state->keptbox.kept;
}

static void kept_down(struct state *state)
{
	keptbox_down(&state->keptbox);
	vfu_function_fini(&state->box.function);
}

static void test_a_kept_connection_survives_any_failure(void **unused)
{
	(void)unused;
	static struct state state;

	write_script(&state.script);
	kept_up(&state);
	unsigned faults = fault_sweep(one_vmm, &state);
	assert_int_equal(state.keptbox.n_held, 0);
	kept_down(&state);
	assert_true(faults >= 3 * state.script.n); /* each is looked at before */
}

#define HALF 8 /* of the script: all kinds of descriptors have come */

/* The next process: 0, or an error and then nothing is left of it but the VMM's socket. */
static int take_over(struct state *state, struct vfu_connection **connection)
{
	struct vfu_why why;
	int error = vfubox_up(&state->box, 1, 8, 0);

	if (error < 0)
		return error;
	error = keptbox_resume(&state->keptbox);
	if (error == 0) {
		state->box.function.kept = state->keptbox.kept;
		error = vfu_connection_resume(
			connection, state->device, &state->box.function, "fault", NULL, &why);
	}
	if (error < 0)
		vfu_function_fini(&state->box.function);
	return error;
}

/* Fails the n-th call of a take-over. What failed, or NULL. */
static const char *fail_take_over(struct state *state, unsigned n, unsigned *refused)
{
	struct vfu_connection *connection;

	kept_up(state);
	assert_int_equal(connect_vmm(state), 0);
	vfu_kept_attach(state->keptbox.kept, 1);
	assert_int_equal(vfu_connection_create(&connection, dup(state->device),
				 &state->box.function, "fault", NULL),
		0);
	assert_true(talk(state, connection, 0, HALF));
	vfu_connection_destroy(connection);
	vfu_function_fini(&state->box.function);

	fault_arm(n);
	int error = take_over(state, &connection);
	const char *name = fault_disarm();
	if (error < 0) {
		*refused += 1;
		assert_non_null(name);
		assert_int_equal(take_over(state, &connection), 0);
	}
	state->device = -1;
	assert_true(talk(state, connection, HALF, state->script.n));
	vfu_connection_destroy(connection);
	vfu_function_release(&state->box.function);
	vfu_kept_detach(state->keptbox.kept);
	disconnect_vmm(state);
	kept_down(state);
	return name;
}

static void test_every_fault_in_a_take_over(void **unused)
{
	(void)unused;
	static struct state state;
	unsigned refused = 0, n = 1;

	write_script(&state.script);
	while (fail_take_over(&state, n, &refused))
		n++;
	/* The memory of five things, and what is done to each of four descriptors. */
	assert_true(refused >= 5 + 4);
}

static void test_a_device_is_made_or_not(void **unused)
{
	(void)unused;
	static struct state state;

	write_script(&state.script);
	assert_true(fault_sweep(one_device, &state) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_connection_survives_any_failure),
		TEST(test_a_kept_connection_survives_any_failure),
		TEST(test_every_fault_in_a_take_over),
		TEST(test_a_device_is_made_or_not),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
