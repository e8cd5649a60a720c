/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steers V2V frames to the sockets of Baton's workers, past the network stack. All frames of one
 * meeting go to one ring of their queue, so one worker gets them in order. All frames that are not
 * for Baton pass to the kernel unchanged.
 */
#include "abi.h"
#include "maps.h"
#include "parse.h"

static __always_inline int verdict(enum baton_verdict which, int action)
{
	__u32 index = which;
	__u64 *count = bpf_map_lookup_elem(&verdicts, &index);

	if (count)
		(*count)++;
	return action;
}

/* The SplitMix64 finaliser: consecutive meeting numbers must spread over the rings. */
static __always_inline __u64 mix(__u64 z)
{
	z ^= z >> 30;
	z *= 0xBF58476D1CE4E5B9ULL;
	z ^= z >> 27;
	z *= 0x94D049BB133111EBULL;
	return z ^ z >> 31;
}

/* The ring of a key, among `rings`: the high half scales into the range without a division. */
static __always_inline __u32 ring_of(__u64 key, __u32 rings)
{
	return (mix(key) >> 32) * rings >> 32;
}

/* A separate function, so that the struct is in the object's BTF, which is compared with the Rust
 * side. */
static __noinline void write_arrival(struct baton_arrival *arrival, __u64 now)
{
	arrival->magic = BATON_ARRIVAL_MAGIC;
	arrival->reserved = 0;
	arrival->ns = now;
}

/* To read the clock takes long, for it waits for all before it. So where frames keep coming to a
 * processor faster than two million a second, it stamps every eighth: not before so many of them,
 * for a batch that the kernel has saved up comes as fast and is soon over. */
#define STAMPED_BUSY 8
#define BUSY_GAP_NS 500
#define BUSY_AFTER 256

/* Writes the time of arrival before the frame's first byte. If the driver has no room for it, the
 * frame gets none. */
static __always_inline void stamp(struct xdp_md *ctx)
{
	struct baton_arrival *arrival;
	struct stamping *how;
	__u32 first = 0;
	__u64 now;

	how = bpf_map_lookup_elem(&stamping, &first);
	if (!how)
		return;
	if (how->without) {
		how->without--;
		return;
	}
	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*arrival)))
		return;
	arrival = (void *)(long)ctx->data_meta;
	if ((void *)(arrival + 1) > (void *)(long)ctx->data)
		return;
	now = bpf_ktime_get_ns();
	if (now - how->latest >= (__u64)how->every * BUSY_GAP_NS)
		how->close = 0;
	else if (how->close < BUSY_AFTER)
		how->close++;
	how->every = how->close < BUSY_AFTER ? 1 : STAMPED_BUSY;
	how->without = how->every - 1;
	how->latest = now;
	write_arrival(arrival, now);
}

static __always_inline int redirect(struct xdp_md *ctx, const struct baton_settings *how, __u64 key,
				    enum baton_verdict which)
{
	__u32 slot = ctx->rx_queue_index;
	int action;

	if (slot >= BATON_QUEUES_MAX || how->rings == 0 || how->rings > BATON_RINGS_PER_QUEUE_MAX)
		return verdict(BATON_NO_SOCKET, XDP_PASS);
	slot = slot * BATON_RINGS_PER_QUEUE_MAX + ring_of(key, how->rings);

	/* Looked up first, so that a frame that stays with the kernel has no stamp. The socket may
	 * still be closed in between. */
	if (!bpf_map_lookup_elem(&rings, &slot))
		return verdict(BATON_NO_SOCKET, XDP_PASS);
	stamp(ctx);
	action = bpf_redirect_map(&rings, slot, XDP_PASS);
	return verdict(action == XDP_REDIRECT ? which : BATON_NO_SOCKET, action);
}

/*
 * Whether a frame comes too early, by the generic cell rate algorithm: one number for each source,
 * the time when its next frame is due. If a source uses several queues, these may overwrite each
 * other's number, and let it send one more frame.
 */
static __always_inline int over_rate(const struct baton_settings *how, __u64 source)
{
	__u64 now = bpf_ktime_get_ns();
	__u64 next = now + how->source_interval_ns;
	__u64 *due = bpf_map_lookup_elem(&sources, &source);

	if (!due) {
		bpf_map_update_elem(&sources, &source, &next, BPF_ANY);
		return 0;
	}
	if (*due > now + how->source_window_ns)
		return 1;
	*due = *due > now ? *due + how->source_interval_ns : next;
	return 0;
}

SEC("xdp")
int steer(struct xdp_md *ctx)
{
	struct span rest = { .at = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end };
	const struct baton_settings *how;
	enum baton_verdict kind;
	__u32 first = 0;
	__u16 ethertype;
	__u64 key, source;

	how = bpf_map_lookup_elem(&settings, &first);
	if (!how)
		return XDP_PASS;
	if (parse_ethernet(&rest, &ethertype, &source))
		return verdict(BATON_TRUNCATED, XDP_PASS);

	if (ethertype == how->ethertype) {
		kind = parse_v2v(&rest, &key);
		if (kind != BATON_STEERED)
			return verdict(kind, XDP_PASS);
		if (how->known_only && !bpf_map_lookup_elem(&known, &source))
			return verdict(BATON_STRANGER, XDP_DROP);
		if (how->source_interval_ns && over_rate(how, source))
			return verdict(BATON_OVER_RATE, XDP_DROP);
		return redirect(ctx, how, key, BATON_STEERED);
	}
	if (ethertype == ETHERTYPE_IPV4 && how->probe_port && parse_probe(&rest, how->probe_port, &key))
		return redirect(ctx, how, key, BATON_PROBE);
	return verdict(BATON_OTHER_ETHERTYPE, XDP_PASS);
}

/* None of the helpers above requires the GPL. */
char LICENSE[] SEC("license") = "Apache-2.0";
