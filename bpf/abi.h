/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the steering program and Baton share. This file is its only source: build.rs makes the Rust
 * side from it, the assertions below check it in C, and tests/steer.rs compares it with the BTF of
 * the compiled program.
 *
 * Any change of a struct, map or meaning here changes BATON_ABI: a pinned program with another
 * number is replaced together with its maps.
 */
#ifndef BATON_ABI_H
#define BATON_ABI_H

#include <linux/types.h>

#define BATON_ABI 2

/* Queues of an interface that can be steered, and sockets ("rings") on each. A socket's slot in the
 * map `rings` is queue * BATON_RINGS_PER_QUEUE_MAX + ring, so that a queue's slots do not move when
 * the number of rings changes. */
#define BATON_QUEUES_MAX 64
#define BATON_RINGS_PER_QUEUE_MAX 16

/* The V2V packet, wire.md sections 2 and 3. The metro form has a label before the payload. */
#define BATON_ADDRESSES_BYTES 18
#define BATON_LABEL_BYTES 4
#define BATON_PROTOCOL_BYTES 64
#define BATON_DATA_BYTES 1056
#define BATON_TYPE_PROTOCOL 0x01
#define BATON_TYPE_UNICAST 0x02
#define BATON_TYPE_MULTICAST 0x03
#define BATON_TYPE_METRO 0x80
#define BATON_SOURCE_AT 8   /* of the source address in the packet */
#define BATON_MEETING_AT 16 /* of the meeting in the payload */

/* The first bytes of the payload of a probe of the kernel's packet generator. */
#define BATON_PROBE_MAGIC 0xbe9be955

/* The only entry of the map `settings`. */
struct baton_settings {
	__u32 abi;        /* BATON_ABI of the writer */
	/* rings of each queue among which frames are distributed; 0: none, all frames pass */
	__u32 rings;
	__u16 ethertype;  /* of V2V frames, in the host's byte order */
	__u16 probe_port; /* UDP port of generator probes, in the host's byte order; 0: none */
	/* not 0: V2V frames from MAC addresses that are not in the map `known` are dropped */
	__u32 known_only;
	/* from one V2V frame of a MAC address to its next, on average; 0: no limit */
	__u64 source_interval_ns;
	__u64 source_window_ns;   /* how much earlier a frame may come: the permitted burst */
};
_Static_assert(sizeof(struct baton_settings) == 32, "no hole, no surprise");

/* Entries of the map `known`, and of the map `sources`, which forgets those that have been silent
 * the longest. */
#define BATON_KNOWN_MAX 1024
#define BATON_SOURCES_MAX 4096

/* Lies immediately before the first byte of a steered frame. The magic distinguishes it from other
 * data that may be there. */
#define BATON_ARRIVAL_MAGIC 0x41525256
struct baton_arrival {
	__u32 magic;
	__u32 reserved;
	__u64 ns; /* CLOCK_MONOTONIC */
};
_Static_assert(sizeof(struct baton_arrival) == 16, "metadata comes in words, and at most 32 bytes of it everywhere");

/* The verdict on a frame: the index into the map `verdicts`, which counts. The first two go to a
 * ring, the last two are dropped, and the others pass to the kernel. */
enum baton_verdict {
	BATON_STEERED,         /* a V2V frame, to its ring */
	BATON_PROBE,           /* a generator probe, to its ring */
	/* V2V or a probe, but no socket in the ring's slot, or no rings at all */
	BATON_NO_SOCKET,
	BATON_OTHER_ETHERTYPE, /* the kernel's own traffic */
	/* ends before its Ethernet header, or V2V and shorter than its packet */
	BATON_TRUNCATED,
	BATON_UNKNOWN_TYPE,    /* V2V by its EtherType, but with an unknown packet type */
	BATON_STRANGER,        /* V2V from an unknown MAC address, if only known ones may send */
	BATON_OVER_RATE,       /* V2V above the rate of its MAC address */
	BATON_VERDICTS,
};

/*
 * The rest is for bpf/load.bpf.c, the load generator's program. It exists only as long as the
 * process that loads it, so BATON_ABI does not cover it.
 */

/* The longest protocol frame is 104 bytes; of a page, this is the part before its first record's
 * information. */
#define BATON_LOAD_HEAD_BYTES 112
#define BATON_LOAD_TAG_BYTES 16
/* The longest frame that is sent. A power of two, so that a mask bounds an offset. */
#define BATON_LOAD_FRAME_BYTES 2048

/* The only entry of the map `load_how`. */
struct baton_load_how {
	__u64 count;       /* frames to send; further runs drop their frame */
	__u64 interval_ps; /* picoseconds from one frame to the next; 0: as fast as possible */
	__u64 sequence;    /* of the first frame, for probes */
	__u32 frames;      /* entries of the map `load_frames`, sent in turn */
	__u32 interface;   /* index of the outgoing interface */
	__u32 tag_at;      /* offset of an entry's tag; 0: it is in the head */
	__u32 version_at;  /* offset of a version that grows by one with every turn; 0: none */
	__u32 version;     /* the first version */
	__u32 probe_at;    /* offset of the time of sending and the sequence; 0: none */
};
_Static_assert(sizeof(struct baton_load_how) == 48, "no hole, no surprise");

/* The only entry of the map `load_progress`. */
struct baton_load_progress {
	__u64 sent;      /* frames handed to the interface */
	__u64 first_ns;  /* CLOCK_MONOTONIC of the first */
	__u64 marked;    /* this many had been sent ... */
	/* ... at this time; not read for every frame, because that costs as much as sending half of
	 * one */
	__u64 marked_ns;
	__u32 index;     /* of the next entry */
	__u32 turn;      /* times that all entries were sent */
};
_Static_assert(sizeof(struct baton_load_progress) == 40, "no hole, no surprise");

/* An entry of the map `load_frames`: the beginning of a frame, and its tag if that is not in the
 * beginning. */
struct baton_load_frame {
	/* bytes of the wire, in words because bindgen makes those without unsafe code */
	__u64 head[BATON_LOAD_HEAD_BYTES / 8];
	__u64 tag[BATON_LOAD_TAG_BYTES / 8];
};
_Static_assert(sizeof(struct baton_load_frame) == 128, "two cache lines");

/* What the sink counts: the index into its map. */
enum baton_sunk {
	BATON_SUNK_FRAMES,
	BATON_SUNK_BYTES,
	BATON_SUNK,
};

#endif
