/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The load generator. `load` runs on frames that the kernel makes for it
 * (BPF_F_TEST_XDP_LIVE_FRAMES): it overwrites each with the next prepared frame and sends it.
 * `sink`, on the interface at the other end, counts V2V frames and drops them.
 *
 * Only one `load` runs at a time, on one CPU, so its progress needs no atomics.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "write.h"

/* Frames between two readings of the clock if no rate is kept. A power of two. */
#define MARK_EVERY 256

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct baton_load_how);
} load_how SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct baton_load_progress);
} load_progress SEC(".maps");

/* The loader sets the number of entries. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct baton_load_frame);
} load_frames SEC(".maps");

/* The EtherType that the sink counts, in network byte order. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} sink_ethertype SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BATON_SUNK);
	__type(key, __u32);
	__type(value, __u64);
} sunk SEC(".maps");

/* Writes as much of the head as the frame has room for: eight bytes at a time, then four if that is
 * its end. */
static __always_inline void write_head(void *data, void *end, const struct baton_load_frame *frame)
{
	const void *head = frame->head;

#pragma unroll
	for (int at = 0; at < BATON_LOAD_HEAD_BYTES; at += 8) {
		if (data + at + 8 > end) {
			if (data + at + 4 <= end)
				((struct word *)(data + at))->value = ((const struct word *)(head + at))->value;
			return;
		}
		((struct words *)(data + at))->value = ((const struct words *)(head + at))->value;
	}
}

SEC("xdp")
int load(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct baton_load_frame *frame;
	struct baton_load_progress *done;
	const struct baton_load_how *how;
	__u64 due = 0;
	__u32 first = 0, at;

	how = bpf_map_lookup_elem(&load_how, &first);
	done = bpf_map_lookup_elem(&load_progress, &first);
	if (!how || !done || done->sent >= how->count)
		return XDP_DROP;

	if (how->interval_ps) {
		__u64 now = bpf_ktime_get_ns();

		if (done->sent == 0)
			done->first_ns = now;
		due = done->first_ns + done->sent * how->interval_ps / 1000;
		if (now < due)
			return XDP_DROP;
		done->marked = done->sent;
		done->marked_ns = now;
	} else if ((done->sent & (MARK_EVERY - 1)) == 0 || how->probe_at) {
		due = bpf_ktime_get_ns();
		if (done->sent == 0)
			done->first_ns = due;
		done->marked = done->sent;
		done->marked_ns = due;
	}

	frame = bpf_map_lookup_elem(&load_frames, &done->index);
	if (!frame)
		return XDP_DROP;
	write_head(data, end, frame);
	at = how->tag_at & (BATON_LOAD_FRAME_BYTES - 1);
	if (at && data + at + BATON_LOAD_TAG_BYTES <= end) {
		((struct words *)(data + at))->value = frame->tag[0];
		((struct words *)(data + at + 8))->value = frame->tag[1];
	}
	at = how->version_at & (BATON_LOAD_FRAME_BYTES - 1);
	if (at && data + at + 4 <= end)
		write_u32(data + at, how->version + done->turn);
	at = how->probe_at & (BATON_LOAD_FRAME_BYTES - 1);
	if (at && data + at + 16 <= end) {
		write_u64(data + at, due);
		write_u64(data + at + 8, how->sequence + done->sent);
	}

	done->sent++;
	if (++done->index >= how->frames) {
		done->index = 0;
		done->turn++;
	}
	return bpf_redirect(how->interface, 0);
}

static __always_inline void sink_add(__u32 which, __u64 n)
{
	__u64 *count = bpf_map_lookup_elem(&sunk, &which);

	if (count)
		*count += n;
}

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 first = 0;
	__u32 *ethertype = bpf_map_lookup_elem(&sink_ethertype, &first);

	if (!ethertype || data + 14 > end || *(__u16 *)(data + 12) != (__u16)*ethertype)
		return XDP_PASS;
	sink_add(BATON_SUNK_FRAMES, 1);
	sink_add(BATON_SUNK_BYTES, end - data);
	return XDP_DROP;
}

/* None of the helpers above requires the GPL. */
char LICENSE[] SEC("license") = "Apache-2.0";
