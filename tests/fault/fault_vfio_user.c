/* SPDX-License-Identifier: MIT */
/* Every system call and allocation of a connection fails once: nothing leaks, nothing crashes, and
 * the same device serves the next VMM. */
#include "../common/fdcheck.h"
#include "../common/vfubox.h"
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
	int vmm, device, an_eventfd;
};

/* All of the dialogue; 0 if the connection lived to its end. */
static int serve(struct state *state)
{
	struct vfu_connection *connection;
	const struct script *script = &state->script;
	enum vfu_wait wait = VFU_WAIT_READ;
	size_t at = 0;
	unsigned handled = 0, requests;

	if (vfu_connection_create(&connection, state->device, &state->box.function, "fault", NULL) <
		0)
		return -1;
	state->device = -1;
	for (size_t i = 0; i < script->n && wait == VFU_WAIT_READ; i++) {
		if (fdpass_send(state->vmm, script->bytes + at, script->messages[i].size,
			    script->messages[i].with_fd ? state->an_eventfd : -1) < 0)
			break;
		at += script->messages[i].size;
		wait = vfu_connection_ready(connection, &requests);
		handled += requests;
		vfu_function_interrupt(&state->box.function, 0);
		vfu_irqs_resampled(&state->box.function.irqs);
	}
	vfu_connection_destroy(connection);
	vfu_function_release(&state->box.function);
	return wait == VFU_WAIT_READ && handled == script->n ? 0 : -1;
}

static int one_vmm(void *data)
{
	struct state *state = data;
	int ends[2], result;

	state->an_eventfd = eventfd(0, EFD_NONBLOCK);
	if (state->an_eventfd < 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0) {
		close(state->an_eventfd);
		return -1;
	}
	state->device = ends[0];
	state->vmm = ends[1];
	result = serve(state);
	if (state->device >= 0)
		close(state->device);
	forget_replies(state->vmm);
	close(state->vmm);
	close(state->an_eventfd);
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
		TEST(test_a_device_is_made_or_not),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
