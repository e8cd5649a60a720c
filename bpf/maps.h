/* SPDX-License-Identifier: Apache-2.0 */
/* The maps, pinned beside the link under their own names. */
#ifndef BATON_MAPS_H
#define BATON_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct baton_settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, BATON_QUEUES_MAX * BATON_RINGS_PER_QUEUE_MAX);
	__type(key, __u32);
	__type(value, __u32);
} rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BATON_VERDICTS);
	__type(key, __u32);
	__type(value, __u64);
} verdicts SEC(".maps");

/* What a processor knows of the frames that it stamps. Its own: not pinned, for a program that
 * follows may begin anew. */
struct stamping {
	__u64 latest;  /* stamp */
	__u32 every;   /* so manieth frame was stamped since the one before it */
	__u32 without; /* frames to come that get none */
	__u32 close;   /* stamps one after the other whose frames came close to each other */
	__u32 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct stamping);
} stamping SEC(".maps");

/* MAC addresses, as numbers, that may send V2V frames. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BATON_KNOWN_MAX);
	__type(key, __u64);
	__type(value, __u32);
} known SEC(".maps");

/* When the next frame of a MAC address is due. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, BATON_SOURCES_MAX);
	__type(key, __u64);
	__type(value, __u64);
} sources SEC(".maps");

#endif
