/* SPDX-License-Identifier: MIT */
#include "device_lab.h"

#include "traced.h"

#include "base/doorbell.h"
#include "base/fdpass.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static struct lab *current; /* in the victim, for callbacks */

/*
 * The device's process
 */

/* Put and drop, as messages to whoever holds. */
struct order {
	uint64_t number, drop;
};

static int send_put(void *data, uint64_t number, const int *fds, size_t n)
{
	const struct lab *lab = data;
	const struct order order = {.number = number};

	(void)n;
	return fdpass_send(lab->keeper[1], &order, sizeof(order), fds[0]) < 0 ? -errno : 0;
}

static int take_held(void *data, uint64_t number, int *fds, size_t max)
{
	struct lab *lab = data;
	return keptbox_take(&lab->keptbox, number, fds, max);
}

static void send_drop(void *data, uint64_t number)
{
	const struct lab *lab = data;
	const struct order order = {.number = number, .drop = 1};

	(void)fdpass_send(lab->keeper[1], &order, sizeof(order), -1);
}

static void ring_peer(void *data, unsigned peer, unsigned vector)
{
	(void)data;
	(void)peer;
	(void)vector;
	(void)doorbell_ring(current->doorbell);
}

static void require(bool condition, const char *what)
{
	if (condition)
		return;
	(void)!write(STDERR_FILENO, what, strlen(what));
	_exit(2);
}

static void make_function(struct lab *lab, struct vfu_function *function)
{
	static uint8_t memory[BOX_SIZE];
	const struct vfu_function_config config = {
		.revision = lab->intx ? 0 : 1,
		.vectors = lab->intx ? 0 : 2,
		.bar_size = BOX_SIZE,
		.position = 7,
		.memory = {.address = memory, .size = BOX_SIZE, .fd = lab->memory},
		.ring = ring_peer,
	};
	require(vfu_function_init(function, &config) == 0, "no function\n");
}

/* What vfu_device_dispatch() does. */
static void hear(const struct lab *lab, struct vfu_function *function)
{
	uint64_t count;

	if (function->kept)
		vfu_kept_hearing(function->kept, true);
	if (doorbell_take(lab->rung, &count) > 0)
		vfu_function_interrupt(function, 0);
	if (function->kept)
		vfu_kept_hearing(function->kept, false);
	vfu_irqs_resampled(&function->irqs);
}

static void take_over(struct lab *lab, struct vfu_function *function, struct vfu_connection **c)
{
	struct keptbox *box = &lab->keptbox;
	const struct vfu_holder holder = {
		.put = send_put, .take = take_held, .drop = send_drop, .data = lab};

	make_function(lab, function);
	int error = vfu_kept_resume(
		&function->kept, box->memory, box->size, &box->identity, &holder, &box->why);
	if (error == 0)
		error = vfu_connection_resume(c, lab->device, function, "test", NULL, &box->why);
	require(error == 0, box->why.text);
}

/* Until the VMM has nothing more to say, or does not listen. */
static void serve(struct lab *lab, struct vfu_function *function, struct vfu_connection *connection)
{
	struct pollfd entry = {.fd = lab->device, .events = POLLIN};
	enum vfu_wait wait = VFU_WAIT_READ;

	hear(lab, function);
	do {
		wait = vfu_connection_ready(connection, NULL);
		require(wait != VFU_WAIT_OVER, "the connection is over\n");
	} while (wait == VFU_WAIT_READ && poll(&entry, 1, 0) == 1);
	hear(lab, function);
}

void lab_start(struct lab *lab, bool traced)
{
	struct vfu_function function;
	struct vfu_connection *connection;

	lab->victim = fork();
	assert_true(lab->victim >= 0);
	if (lab->victim != 0)
		return;
	current = lab;
	if (traced)
		traced_stop_here();
	take_over(lab, &function, &connection);
	serve(lab, &function, connection);
	_exit(0);
}

/* The keeper's part: a message that was sent counts, whatever became of its sender. */
void lab_hold(struct lab *lab)
{
	struct order order;
	int fds[FDPASS_RECV_MAX];
	size_t n;

	while (fdpass_recv(lab->keeper[0], &order, sizeof(order), fds, &n) ==
		(ssize_t)sizeof(order)) {
		if (order.drop)
			keptbox_drop(&lab->keptbox, order.number);
		else
			assert_int_equal(keptbox_put(&lab->keptbox, order.number, fds, n), 0);
		while (n > 0)
			close(fds[--n]);
	}
}

/*
 * The VMM
 */

static unsigned message_id;

static void send_with(struct lab *lab, const void *bytes, size_t size, int fd)
{
	assert_int_equal(fdpass_send(lab->vmm, bytes, size, fd), size);
}

static void say(
	struct lab *lab, unsigned command, uint32_t flags, const void *payload, size_t size, int fd)
{
	uint8_t bytes[128];
	send_with(
		lab, bytes, vfubox_message(bytes, ++message_id, command, flags, payload, size), fd);
}

static void say_write(struct lab *lab, uint32_t flags, unsigned region, uint64_t offset,
	uint32_t value, uint32_t size)
{
	struct {
		struct vfu_region_access access;
		uint8_t bytes[4];
	} payload = {{offset, region, size}, {0}};

	store_le(payload.bytes, 4, value);
	say(lab, VFU_REGION_WRITE, flags, &payload, sizeof(payload.access) + size, -1);
}

static void say_read(struct lab *lab, unsigned region, uint64_t offset, uint32_t size)
{
	const struct vfu_region_access access = {offset, region, size};
	say(lab, VFU_REGION_READ, 0, &access, sizeof(access), -1);
}

static void say_irq(struct lab *lab, uint32_t flags, uint32_t index, uint32_t start, int fd)
{
	const struct vfu_set_irqs set = {sizeof(set), VFU_DATA_EVENTFD | flags, index, start, 1};
	say(lab, VFU_SET_IRQS, 0, &set, sizeof(set), fd);
}

/* A message with a descriptor that comes in two pieces, behind another one. */
static void say_irq_in_pieces(struct lab *lab, uint32_t start, int fd)
{
	const struct vfu_set_irqs set = {
		sizeof(set), VFU_DATA_EVENTFD | VFU_ACTION_TRIGGER, VFU_MSIX, start, 1};
	uint8_t bytes[64];
	size_t size = vfubox_message(bytes, ++message_id, VFU_SET_IRQS, 0, &set, sizeof(set));

	send_with(lab, bytes, 20, fd);
	send_with(lab, bytes + 20, size - 20, -1);
}

static void say_hello(struct lab *lab)
{
	const struct vfu_version version = {0, 0};
	const struct vfu_device_info info = {.argsz = sizeof(info)};
	const struct vfu_region_info region = {
		.argsz = sizeof(region), .index = IVSHMEM_BAR_MEMORY};
	const struct vfu_irq_info irq = {.argsz = sizeof(irq), .index = VFU_MSIX};
	const struct vfu_dma_map map = {.argsz = sizeof(map)};

	say(lab, VFU_VERSION, 0, &version, sizeof(version), -1);
	say(lab, VFU_GET_INFO, 0, &info, sizeof(info), -1);
	say(lab, VFU_GET_REGION_INFO, 0, &region, sizeof(region), -1);
	say(lab, VFU_GET_IRQ_INFO, 0, &irq, sizeof(irq), -1);
	say_irq(lab, VFU_ACTION_TRIGGER, VFU_ERR, 0, lab->err);
	say(lab, VFU_DMA_MAP, 0, &map, sizeof(map), lab->err); /* nobody wants it */
	say_write(lab, 0, VFU_REGION_CONFIG, BOX_COMMAND, 7, 2);
}

/* More than fits into the device's side of the socket. */
static void say_much(struct lab *lab)
{
	for (unsigned i = 0; i < 2; i++)
		say_read(lab, IVSHMEM_BAR_MEMORY, 0, 4096);
}

/* All but what an interrupt more would show in. */
static void ask_all(struct lab *lab)
{
	say_read(lab, VFU_REGION_CONFIG, BOX_COMMAND, 2);
	say_read(lab, VFU_REGION_CONFIG, 8, 56);
	say_read(lab, VFU_REGION_CONFIG, BOX_MSIX_CONTROL, 2);
	say_read(lab, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRMASK, 4);
	say_read(lab, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_IVPOSITION, 4);
}

static void speak_msix(struct lab *lab, unsigned part)
{
	switch (part) {
	case 0:
		say_hello(lab);
		break;
	case 1:
		say_irq_in_pieces(lab, 0, lab->bells[0]);
		say_irq(lab, VFU_ACTION_TRIGGER, VFU_MSIX, 1, lab->bells[1]);
		say_write(lab, 0, VFU_REGION_CONFIG, BOX_MSIX_CONTROL, BOX_MSIX_ENABLE, 2);
		say_write(lab, 0, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRMASK, 0x1234, 4);
		break;
	case 2:
		for (unsigned i = 0; i < 3; i++)
			say_write(lab, VFU_NO_REPLY, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_DOORBELL,
				3 << 16 | i, 4);
		say_much(lab);
		break;
	case 3: /* masked: what peers ring waits */
		say_irq(lab, VFU_ACTION_TRIGGER, VFU_MSIX, 0, -1);
		break;
	case 4:
		say_read(lab, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_IVPOSITION, 4);
		break;
	case 5:
		say_irq(lab, VFU_ACTION_TRIGGER, VFU_MSIX, 0, lab->bells[2]);
		ask_all(lab);
		break;
	}
}

static void speak_intx(struct lab *lab, unsigned part)
{
	switch (part) {
	case 0:
		say_hello(lab);
		break;
	case 1:
		say_irq(lab, VFU_ACTION_TRIGGER, VFU_INTX, 0, lab->bells[0]);
		say_irq(lab, VFU_ACTION_UNMASK, VFU_INTX, 0, lab->resample);
		say_write(lab, 0, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRMASK, 1, 4);
		break;
	case 2:
		say_much(lab);
		break;
	case 3:
	case 4: /* the guest has seen to it, and the VMM unmasks */
		say_read(lab, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRSTATUS, 4);
		say_read(lab, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRSTATUS, 4);
		assert_int_equal(doorbell_ring(lab->resample), 0);
		break;
	case 5:
		ask_all(lab);
		break;
	}
}

/* When do peers ring? */
static bool peers_ring(const struct lab *lab, unsigned part)
{
	return lab->intx ? part == 2 || part == 3 || part == 4 : part == 2 || part == 4;
}

static void begin_part(struct lab *lab, unsigned part)
{
	if (lab->intx)
		speak_intx(lab, part);
	else
		speak_msix(lab, part);
	if (peers_ring(lab, part))
		assert_int_equal(doorbell_ring(lab->rung), 0);
}

static void read_replies(struct lab *lab)
{
	struct outcome *outcome = lab->outcome;
	int fds[FDPASS_RECV_MAX];
	size_t n;
	ssize_t got;

	while ((got = fdpass_recv(lab->vmm, outcome->replies + outcome->size,
			REPLIES - outcome->size, fds, &n)) > 0) {
		outcome->size += (size_t)got;
		outcome->memories += n > 0;
		while (n > 0)
			close(fds[--n]);
	}
	assert_int_equal(got, -EAGAIN);
}

static void end_part(struct lab *lab, unsigned part)
{
	struct outcome *outcome = lab->outcome;
	uint64_t count;

	for (unsigned i = 0; i < BELLS; i++)
		outcome->heard[part][i] = doorbell_take(lab->bells[i], &count) > 0;
	outcome->doorbells[part] = doorbell_take(lab->doorbell, &count) > 0 ? count : 0;
}

/* Let processes work until the VMM has all replies to what it has said. */
static void finish_part(struct lab *lab, unsigned part)
{
	size_t before;

	do {
		before = lab->outcome->size;
		lab_start(lab, false);
		traced_wait(&lab->victim);
		lab_hold(lab);
		read_replies(lab);
	} while (lab->outcome->size > before);
	end_part(lab, part);
}

/*
 * The session
 */

static void set_up(struct lab *lab, bool intx)
{
	static struct outcome outcome; /* large */
	int ends[2], small = 1;

	message_id = 0;
	memset(&outcome, 0, sizeof(outcome));
	*lab = (struct lab){.intx = intx, .outcome = &outcome};
	keptbox_up(&lab->keptbox, intx ? 0 : 1, intx ? 0 : 2);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
	lab->vmm = ends[0];
	lab->device = ends[1];
	assert_int_equal(setsockopt(lab->device, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, lab->keeper), 0);
	lab->memory = eventfd(0, 0);
	lab->rung = eventfd(0, EFD_NONBLOCK);
	lab->doorbell = eventfd(0, EFD_NONBLOCK);
	lab->resample = eventfd(0, EFD_NONBLOCK);
	lab->err = eventfd(0, EFD_NONBLOCK);
	for (unsigned i = 0; i < BELLS; i++)
		lab->bells[i] = eventfd(0, EFD_NONBLOCK);
	vfu_kept_attach(lab->keptbox.kept, 1);
}

static void tear_down(struct lab *lab)
{
	assert_int_equal(keptbox_resume(&lab->keptbox), 0);
	vfu_kept_detach(lab->keptbox.kept);
	keptbox_down(&lab->keptbox);
	const int fds[] = {lab->vmm, lab->device, lab->keeper[0], lab->keeper[1], lab->memory,
		lab->rung, lab->doorbell, lab->resample, lab->err, lab->bells[0], lab->bells[1],
		lab->bells[2]};
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		close(fds[i]);
}

/* Nobody is killed, and nothing is kept. */
static const struct outcome *reference(bool intx)
{
	static struct outcome outcomes[2];
	struct vfu_function function;
	struct vfu_connection *connection;
	struct lab lab;

	if (outcomes[intx].size > 0)
		return &outcomes[intx];
	set_up(&lab, intx);
	current = &lab;
	make_function(&lab, &function);
	assert_int_equal(
		vfu_connection_create(&connection, dup(lab.device), &function, "test", NULL), 0);
	for (unsigned part = 0; part < PARTS; part++) {
		size_t before;
		begin_part(&lab, part);
		do {
			before = lab.outcome->size;
			serve(&lab, &function, connection);
			read_replies(&lab);
		} while (lab.outcome->size > before);
		end_part(&lab, part);
	}
	vfu_connection_destroy(connection);
	vfu_function_fini(&function);
	outcomes[intx] = *lab.outcome;
	tear_down(&lab);
	return &outcomes[intx];
}

static void check(const struct lab *lab, const char *when)
{
	const struct outcome *is = lab->outcome, *should = reference(lab->intx);

	if (is->size != should->size || memcmp(is->replies, should->replies, is->size) != 0)
		fail_msg("%s: other replies", when);
	if (is->memories != should->memories)
		fail_msg("%s: %u times the memory, not %u", when, is->memories, should->memories);
	for (unsigned part = 0; part < PARTS; part++) {
		for (unsigned i = 0; i < BELLS; i++) {
			if (is->heard[part][i] < should->heard[part][i])
				fail_msg("%s: part %u: no interrupt %u", when, part, i);
		}
		if (is->doorbells[part] < should->doorbells[part])
			fail_msg("%s: part %u: a doorbell is lost", when, part);
	}
	unsigned held = lab->intx ? 3 : 3; /* two interrupts or INTx and resample; err */
	if (lab->keptbox.n_held != held)
		fail_msg("%s: %u descriptors are held", when, lab->keptbox.n_held);
}

/* Up to the part in which somebody will be killed; and on from there. */
void lab_go_to(struct lab *lab, bool intx, unsigned part)
{
	(void)reference(intx);
	set_up(lab, intx);
	for (unsigned i = 0; i < part; i++) {
		begin_part(lab, i);
		finish_part(lab, i);
	}
	begin_part(lab, part);
}

void lab_go_on(struct lab *lab, unsigned part, const char *when)
{
	traced_kill(&lab->victim);
	lab_hold(lab);
	for (unsigned i = part; i < PARTS; i++) {
		if (i > part)
			begin_part(lab, i);
		finish_part(lab, i);
	}
	check(lab, when);
	tear_down(lab);
}
