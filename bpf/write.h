/* SPDX-License-Identifier: Apache-2.0 */
/* Words of the wire, written in place: frames have no alignment that C could rely on. */
#ifndef BATON_WRITE_H
#define BATON_WRITE_H

#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct words {
	__u64 value;
} __attribute__((packed));

struct word {
	__u32 value;
} __attribute__((packed));

static __always_inline void write_u64(void *at, __u64 value)
{
	((struct words *)at)->value = bpf_cpu_to_be64(value);
}

static __always_inline void write_u32(void *at, __u32 value)
{
	((struct word *)at)->value = bpf_htonl(value);
}

#endif
