/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs at the egress hook of a sender and overwrites each frame of the kernel's packet generator
 * with a REPORT: one terminal of a domain after the other, with a version that is one higher each
 * time round. scripts/pktgen/reports.sh compiles it for the terminals that are to report.
 *
 * It takes its input from the generator's own frame: the magic and sequence; the UDP source port,
 * which says which of the sending threads it is, and the destination port, which says of how many;
 * and from the priority of the buffer the version of each terminal's first report. If the number of
 * threads divides that of the terminals, all reports of a terminal come from one thread, so its
 * versions stay in order.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include "abi.h"
#include "parse.h"
#include "write.h"

#ifndef DISPATCH_DOMAIN
#define DISPATCH_DOMAIN 1
#define DISPATCH_DEVICE 65535
#define DOMAIN 366
#define BASE 1001
#define TERMINALS 200
#define MEMBERS 10
#define ETHERTYPE 0x88b5
#endif

#define ETHERNET_BYTES 14
#define PAYLOAD_AT (ETHERNET_BYTES + BATON_ADDRESSES_BYTES)
#define BODY_AT (PAYLOAD_AT + 24)
#define FRAME_BYTES (PAYLOAD_AT + BATON_PROTOCOL_BYTES)

#define VERSION 2
#define OPCODE_REPORT 0x30
#define IN_MEETING 2
#define DECODING 2
#define ROLE_PARTICIPANT 0
#define ROLE_CHAIRMAN 1
#define ONLINE_WITH_AUDIO 0x28

/* A generator's frame, which has no options and is not fragmented. */
struct generated {
	struct ethernet ethernet;
	struct ipv4 ip;
	struct udp udp;
	__be32 magic, sequence;
} __attribute__((packed));

static __always_inline __u64 address(__u64 domain, __u64 device)
{
	return domain << 16 | device;
}

SEC("tc")
int baton_reports(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	const struct generated *generated = data;
	__u64 number, nth;
	__u32 version, thread, threads;
	__u8 *body;

	if (data + FRAME_BYTES > end || generated->ethernet.ethertype != bpf_htons(ETHERTYPE_IPV4) ||
	    generated->ip.version_ihl != 0x45 || generated->ip.protocol != IP_PROTOCOL_UDP ||
	    generated->magic != bpf_htonl(BATON_PROBE_MAGIC))
		return TC_ACT_OK;
	thread = bpf_ntohs(generated->udp.src);
	threads = bpf_ntohs(generated->udp.dst);
	/* The generator counts from 1. */
	number = (__u64)(bpf_ntohl(generated->sequence) - 1) * threads + thread;
	nth = number % TERMINALS;
	version = skb->priority + number / TERMINALS;
	/* 0 is the version of a terminal that has not reported. A repeated number does less harm
	 * than an impossible one. */
	if (version == 0)
		version = 1;
	skb->priority = 0;

	*(__be16 *)(data + 12) = bpf_htons(ETHERTYPE);
	write_u64(data + ETHERNET_BYTES, (__u64)BATON_TYPE_PROTOCOL << 56 | address(DISPATCH_DOMAIN, DISPATCH_DEVICE));
	write_u64(data + ETHERNET_BYTES + BATON_SOURCE_AT, address(DOMAIN, BASE + nth));
	*(__u16 *)(data + ETHERNET_BYTES + 16) = 0;

	write_u64(data + PAYLOAD_AT, (__u64)VERSION << 56 | (__u64)OPCODE_REPORT << 48 | (__u32)(number + 1));
	write_u64(data + PAYLOAD_AT + 8, 0);
	write_u64(data + PAYLOAD_AT + BATON_MEETING_AT, nth / MEMBERS + 1);

	body = data + BODY_AT;
	write_u64(body, address(DOMAIN, BASE + nth));
	write_u32(body + 8, version);
	body[12] = IN_MEETING;
	body[13] = DECODING;
	body[14] = nth % MEMBERS ? ROLE_PARTICIPANT : ROLE_CHAIRMAN;
	body[15] = ONLINE_WITH_AUDIO;
	/* Channel, stream and information; then a zero tag. */
	write_u64(body + 16, 0);
	write_u64(body + 24, 0);
	write_u64(body + 32, 0);
	return TC_ACT_OK;
}

/* None of the helpers above requires the GPL. */
char LICENSE[] SEC("license") = "Apache-2.0";
