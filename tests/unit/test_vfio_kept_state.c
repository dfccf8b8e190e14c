/* SPDX-License-Identifier: MIT */
/* Every field of what is kept of a device: what cannot be is refused, by its name, and nothing is
 * changed. */
#include "../common/vfupair.h"

#include "vfio-user/kept_state.h"

static struct vfu_kept_state state_of(void)
{
	struct vfu_kept_state state;

	vfu_kept_lay_out(&state, pair.keptbox.memory, pair.keptbox.identity.vectors);
	return state;
}

/* It has set up a vector, and its guest a register. */
static void serve_a_vmm(int mine)
{
	uint8_t bytes[64];
	const struct {
		struct vfu_region_access access;
		uint8_t value[4];
	} mask = {{IVSHMEM_REG_INTRMASK, IVSHMEM_BAR_REGISTERS, 4}, {1}};
	int fd = dup(mine);

	up(2, -1);
	send_fds(bytes, add_set_irqs(bytes, 2, 1, 1), &fd, 1);
	assert_int_equal(ready(1), VFU_WAIT_READ);
	receive(2, VFU_SET_IRQS, 0, 16, NULL);
	send_bytes(bytes, add(bytes, 3, VFU_REGION_WRITE, &mask, 20));
	assert_int_equal(ready(1), VFU_WAIT_READ);
	receive(3, VFU_REGION_WRITE, 0, 32, NULL);
}

static void expect_refusal(int error, const char *field)
{
	struct keptbox *box = &pair.keptbox;
	const struct vfu_holder holder = keptbox_holder(box);
	struct vfu_kept *kept = NULL;
	struct vfu_why why;

	int result = vfu_kept_resume(&kept, box->memory, box->size, &box->identity, &holder, &why);
	if (result != error || strncmp(why.text, field, strlen(field)) != 0)
		fail_msg("%s: %d, %s", field, result, result < 0 ? why.text : "");
	assert_null(kept);
}

#define DAMAGE(place, value, error, field)                                                         \
	do {                                                                                       \
		__typeof__(place) saved_ = (place);                                                \
		(place) = (__typeof__(place))(value);                                              \
		expect_refusal(error, field);                                                      \
		(place) = saved_;                                                                  \
	} while (0)

static void damage_header(struct vfu_kept_header *header)
{
	DAMAGE(header->magic[0], 'x', -EINVAL, "magic");
	DAMAGE(header->version, 2, -ENOTSUP, "version");
	DAMAGE(header->version, 0, -EINVAL, "version");
	DAMAGE(header->header_size, 8, -EINVAL, "header_size");
	DAMAGE(header->size, 8, -EINVAL, "size");
	DAMAGE(header->identity.type, VFU_LEGACY, -EINVAL, "identity");
	DAMAGE(header->identity.vectors, 3, -EINVAL, "identity");
	DAMAGE(header->identity.msi, 0, -EINVAL, "identity");
	DAMAGE(header->identity.subsystem_id, 1, -EINVAL, "identity");
	DAMAGE(header->identity.bar_size, 4096, -EINVAL, "identity");
	DAMAGE(header->hearing, 2, -EINVAL, "hearing");
	DAMAGE(header->last_number, 0, -EINVAL, "");
	DAMAGE(header->last_number, header->last_number + VFU_FDS_MAX + 1, -EINVAL, "numbered");
}

static void damage_block(struct vfu_kept_block *block)
{
	DAMAGE(block->numbered, UINT64_MAX, -EINVAL, "numbered");
	DAMAGE(block->at, block->have + 1, -EINVAL, "at or have");
	DAMAGE(block->have, VFU_KEPT_IN_SIZE + 1, -EINVAL, "at or have");
	DAMAGE(block->early, ((struct vfu_kept_fds){.first = 99, .n = 1}), -EINVAL, "early");
	DAMAGE(block->early, ((struct vfu_kept_fds){.first = 0, .n = 1}), -EINVAL, "early");
	DAMAGE(block->late, ((struct vfu_kept_fds){.first = 1, .n = UINT32_MAX}), -EINVAL, "early");
	DAMAGE(block->late, ((struct vfu_kept_fds){.first = 1, .owner = 4000, .n = 1}), -EINVAL,
		"early");
	DAMAGE(block->reply_size, 15, -EINVAL, "reply_size");
	DAMAGE(block->reply_size, VFU_MESSAGE_MAX + 1, -EINVAL, "reply_size");
	DAMAGE(block->reply_sent, block->reply_size + 1, -EINVAL, "reply_sent");
	DAMAGE(block->agreed, 2, -EINVAL, "reply_with_fd");
	DAMAGE(block->trapped, 255, -EINVAL, "reply_with_fd");
	DAMAGE(block->core, 3, -EINVAL, "core or irqs");
	DAMAGE(block->irqs, 3, -EINVAL, "core or irqs");
}

static void damage_notes(struct vfu_kept_header *header)
{
	struct vfu_kept_take take = {.at = header->current, .size = 100};
	struct vfu_kept_send send = {.at = header->current};

	take.note.message.msg_len = 101;
	DAMAGE(header->take, take, -EINVAL, "take: a length");
	take.note.message.msg_len = 0;
	DAMAGE(header->take, take, -EINVAL, "take: a length");
	take.size = UINT64_MAX;
	take.note.message.msg_len = VFU_KEPT_IN_SIZE + 1;
	DAMAGE(header->take, take, -EINVAL, "take: a length");
	take.note.message.msg_len = 10;
	take.first = header->last_number + 1;
	take.n = 1;
	DAMAGE(header->take, take, -EINVAL, "take: descriptors");
	send.note.message.msg_len = VFU_MESSAGE_MAX;
	DAMAGE(header->send, send, -EINVAL, "send: a length");
}

static void test_what_cannot_be_is_refused_whole(void **unused)
{
	(void)unused;
	int mine = eventfd(0, EFD_NONBLOCK);

	serve_a_vmm(mine);
	struct vfu_kept_state state = state_of();
	struct vfu_kept_block *block = vfu_kept_current(&state);
	static uint8_t before[1 << 20];
	assert_true(pair.keptbox.size <= sizeof(before));
	memcpy(before, pair.keptbox.memory, pair.keptbox.size);
	damage_header(state.header);
	damage_block(block);
	damage_notes(state.header);
	DAMAGE(state.irqs[block->irqs - 1][1], 77, -EINVAL, "irqs, 1");
	DAMAGE(state.cores[block->core - 1][0], 9, -EINVAL, "core: version");
	DAMAGE(state.cores[block->core - 1][24], 0, -EINVAL, "core: configuration space");
	assert_memory_equal(before, pair.keptbox.memory, pair.keptbox.size);
	assert_int_equal(pair.keptbox.n_held, 1);
	pair.keptbox.size -= 4096;
	expect_refusal(-EINVAL, "size");
	pair.keptbox.size += 4096;
	assert_int_equal(keptbox_resume(&pair.keptbox), 0); /* and now it works */
	pair.box.function.kept = pair.keptbox.kept;
	close(mine);
	down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_cannot_be_is_refused_whole),
	};
	keeping = true;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
