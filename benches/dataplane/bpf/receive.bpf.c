// What the bench puts on interfaces: the limits that the kernel sets, the plainest way into an
// AF_XDP socket, and counters of what comes back.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

// Frames whose numbers are told apart; frames with higher ones are counted alone.
#define NUMBERS (1 << 16)
// Where a REPORT has its transaction, which is the frame's number plus one, big-endian: after
// Ethernet 14, addresses 18, and four bytes of the header.
#define TRANSACTION 36

// 0: frames that came to a program which counts. 1: of those, how many differ by their number.
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 2);
    __type(key, __u32);
    __type(value, __u64);
} counts SEC(".maps");

// A bit for each number that came.
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, NUMBERS / 64);
    __type(key, __u32);
    __type(value, __u64);
} numbers SEC(".maps");

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

SEC("xdp")
int drop(struct xdp_md *ctx)
{
    __u64 *seen = counter(0);
    if (seen)
        *seen += 1;
    return XDP_DROP;
}

// Counts as `drop` does, and the different ones.
SEC("xdp")
int drop_and_tell_apart(struct xdp_md *ctx)
{
    __u8 *frame = (void *)(long)ctx->data;
    if ((void *)(frame + TRANSACTION + 4) > (void *)(long)ctx->data_end)
        return XDP_DROP;
    __u32 transaction = 0;
    for (int i = 0; i < 4; i++)
        transaction = transaction << 8 | frame[TRANSACTION + i];
    __u32 number = transaction - 1, word = number / 64;
    __u64 *bits = bpf_map_lookup_elem(&numbers, &word);
    __u64 *seen = counter(0), *differ = counter(1);
    if (!seen || !differ)
        return XDP_DROP;
    *seen += 1;
    // One core receives for a queue, and there is one queue.
    if (bits && !(*bits >> number % 64 & 1)) {
        *bits |= 1ULL << number % 64;
        *differ += 1;
    }
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
