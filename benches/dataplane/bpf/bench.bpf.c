// The generator of the bench, the limits that the kernel sets, and the plainest way into an AF_XDP
// socket.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define FRAME 96
#define FRAMES (1 << 21)

struct frame {
    __u64 words[FRAME / 8];
};

// Frames that differ, sent one after the other. Written by the bench through a mapping of its own.
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, FRAMES);
    __type(key, __u32);
    __type(value, struct frame);
} frames SEC(".maps");

// 0: the next frame to send. 1: frames that came to a program which counts.
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 2);
    __type(key, __u32);
    __type(value, __u64);
} counts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, 4);
    __type(key, __u32);
    __type(value, __u32);
} sockets SEC(".maps");

static __always_inline __u64 *counter(__u32 which)
{
    return bpf_map_lookup_elem(&counts, &which);
}

// Sends the frame as it is, out of the interface that the context names.
SEC("xdp")
int send_same(struct xdp_md *ctx)
{
    return XDP_TX;
}

// Sends the next of the frames that differ.
SEC("xdp")
int send_next(struct xdp_md *ctx)
{
    struct frame *to = (void *)(long)ctx->data;
    __u64 *next = counter(0);
    if (!next || (void *)(to + 1) > (void *)(long)ctx->data_end)
        return XDP_DROP;
    __u32 key = *next & (FRAMES - 1);
    struct frame *from = bpf_map_lookup_elem(&frames, &key);
    if (!from)
        return XDP_DROP;
    *next += 1;
    *to = *from;
    return XDP_TX;
}

SEC("xdp")
int drop(struct xdp_md *ctx)
{
    __u64 *seen = counter(1);
    if (seen)
        *seen += 1;
    return XDP_DROP;
}

// Swaps the two MAC addresses, and sends the frame back.
SEC("xdp")
int echo(struct xdp_md *ctx)
{
    __u16 *mac = (void *)(long)ctx->data;
    if ((void *)(mac + 6) > (void *)(long)ctx->data_end)
        return XDP_DROP;
#pragma unroll
    for (int i = 0; i < 3; i++) {
        __u16 other = mac[i];
        mac[i] = mac[i + 3];
        mac[i + 3] = other;
    }
    return XDP_TX;
}

SEC("xdp")
int pass(struct xdp_md *ctx)
{
    return XDP_PASS;
}

SEC("xdp")
int redirect(struct xdp_md *ctx)
{
    return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_DROP);
}

char _license[] SEC("license") = "Dual BSD/GPL";
