/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Headers, read only if they are complete. A function returns what follows the header that it read,
 * or NULL if the frame ends before.
 */
#ifndef BATON_PARSE_H
#define BATON_PARSE_H

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_IPV4 0x0800
#define IP_PROTOCOL_UDP 17
#define IPV4_FRAGMENT 0x3fff /* more fragments, or an offset */

struct ethernet {
	__u8 dst[6], src[6];
	__be16 ethertype;
} __attribute__((packed));

struct vlan {
	__be16 tci, ethertype;
} __attribute__((packed));

struct ipv4 {
	__u8 version_ihl, tos;
	__be16 length, id, fragment;
	__u8 ttl, protocol;
	__be16 checksum;
	__be32 src, dst;
} __attribute__((packed));

struct udp {
	__be16 src, dst, length, checksum;
} __attribute__((packed));

struct span {
	const void *at, *end;
};

/* Whether the frame has `bytes` from `at` on. The comparison has the form that the verifier
 * understands. */
static __always_inline int holds(const struct span *rest, __u64 bytes)
{
	return rest->at + bytes <= rest->end;
}

/* Eight bytes of the wire as a number. Frames have no alignment that C could rely on. */
static __always_inline __u64 read_u64(const void *at)
{
	struct unaligned {
		__be64 value;
	} __attribute__((packed));

	return bpf_be64_to_cpu(((const struct unaligned *)at)->value);
}

/* Skips the Ethernet header and one 802.1Q tag. Returns the sender as a number. */
static __always_inline int parse_ethernet(struct span *rest, __u16 *ethertype, __u64 *source)
{
	const struct ethernet *ethernet = rest->at;
	const __u8 *mac = ethernet->src;

	if (!holds(rest, sizeof(*ethernet)))
		return -1;
	*source = (__u64)mac[0] << 40 | (__u64)mac[1] << 32 | (__u64)mac[2] << 24 | mac[3] << 16 | mac[4] << 8 | mac[5];
	*ethertype = bpf_ntohs(ethernet->ethertype);
	rest->at += sizeof(*ethernet);

	if (*ethertype == ETHERTYPE_VLAN) {
		const struct vlan *vlan = rest->at;

		if (!holds(rest, sizeof(*vlan)))
			return -1;
		*ethertype = bpf_ntohs(vlan->ethertype);
		rest->at += sizeof(*vlan);
	}
	return 0;
}

/* A complete V2V packet: the number that selects its ring is its meeting or, if it has none, its
 * source. */
static __always_inline enum baton_verdict parse_v2v(const struct span *rest, __u64 *key)
{
	const void *packet = rest->at;
	const void *payload = packet + BATON_ADDRESSES_BYTES;
	__u8 type;

	if (!holds(rest, BATON_ADDRESSES_BYTES + BATON_LABEL_BYTES))
		return BATON_TRUNCATED;
	type = *(const __u8 *)packet;
	if (type & BATON_TYPE_METRO)
		payload += BATON_LABEL_BYTES;

	switch (type & ~BATON_TYPE_METRO) {
	case BATON_TYPE_PROTOCOL:
		if (payload + BATON_PROTOCOL_BYTES > rest->end)
			return BATON_TRUNCATED;
		break;
	case BATON_TYPE_UNICAST:
	case BATON_TYPE_MULTICAST:
		if (payload + BATON_DATA_BYTES > rest->end)
			return BATON_TRUNCATED;
		break;
	default:
		return BATON_UNKNOWN_TYPE;
	}

	*key = read_u64(payload + BATON_MEETING_AT);
	if (*key == 0)
		*key = read_u64(packet + BATON_SOURCE_AT);
	return BATON_STEERED;
}

/* A probe of the kernel's packet generator, wire.md section 7: IPv4 and UDP to one port, complete,
 * and with its magic. */
static __always_inline int parse_probe(struct span *rest, __u16 port, __u64 *key)
{
	const struct ipv4 *ip = rest->at;
	const struct udp *udp;
	const __be32 *magic;
	__u32 ip_bytes;

	if (!holds(rest, sizeof(*ip)))
		return 0;
	ip_bytes = (ip->version_ihl & 0xf) * 4;
	if (ip->version_ihl >> 4 != 4 || ip_bytes < sizeof(*ip))
		return 0;
	if (ip->protocol != IP_PROTOCOL_UDP || ip->fragment & bpf_htons(IPV4_FRAGMENT))
		return 0;

	udp = rest->at + ip_bytes;
	magic = (const void *)(udp + 1);
	if ((const void *)(magic + 1) > rest->end)
		return 0;
	if (udp->dst != bpf_htons(port) || *magic != bpf_htonl(BATON_PROBE_MAGIC))
		return 0;

	/* All probes of one sender go to one ring, so that their order can be checked there. */
	*key = ((__u64)ip->src << 32) | udp->src;
	return 1;
}

#endif
