// The generator of the bench: sends frames that were prepared, each once, one after the other, as
// fast as it can or at a rate.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define FRAME 96
#define FRAMES (1 << 22)
// Frames that the kernel has this program make before it sends them; a power of two.
#define BATCH 64
// Batches that may follow each other without a pause where the generator was held up.
#define LATE 4
// Looks at the clock while a batch is waited for: some tens of milliseconds of them.
#define LOOKS (1 << 20)

struct frame {
    __u64 words[FRAME / 8];
};

// Written by the bench through a mapping of its own.
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, FRAMES);
    __type(key, __u32);
    __type(value, struct frame);
} frames SEC(".maps");

// How a call goes. One core generates, so that nothing here is atomic.
struct pace {
    // The next frame to send.
    __u64 next;
    // Nanoseconds from a batch to the next; 0 for no pause at all.
    __u64 interval;
    // When the next batch is to be sent.
    __u64 due;
    // When the first batch was begun, and the latest. What the call itself does before and after,
    // such as to wait for others to let go of memory, is no part of sending.
    __u64 first, latest;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct pace);
} paces SEC(".maps");

// Ends the loop when a time has come.
static long is_due(__u64 look, void *due)
{
    return bpf_ktime_get_ns() >= *(__u64 *)due;
}

// Sends the next frame out of the interface that the context names. A longer frame ends with what
// the call gave for it.
SEC("xdp")
int send_next(struct xdp_md *ctx)
{
    struct frame *to = (void *)(long)ctx->data;
    __u32 first = 0;
    struct pace *pace = bpf_map_lookup_elem(&paces, &first);
    if (!pace || (void *)(to + 1) > (void *)(long)ctx->data_end)
        return XDP_DROP;
    __u32 key = pace->next & (FRAMES - 1);
    if (!(key & (BATCH - 1))) {
        __u64 now = bpf_ktime_get_ns(), due = pace->due;
        if (!pace->first)
            pace->first = now;
        pace->latest = now;
        // A few late batches are made up for; what is later than that is sent later, not faster.
        if (now > due + LATE * pace->interval)
            due = now;
        else if (now < due)
            bpf_loop(LOOKS, is_due, &due, 0);
        pace->due = due + pace->interval;
    }
    struct frame *from = bpf_map_lookup_elem(&frames, &key);
    if (!from)
        return XDP_DROP;
    // Has the frame after the next ones fetched, without which a frame takes twice as long. Nothing
    // waits for the value.
    __u32 ahead = (key + 12) & (FRAMES - 1);
    struct frame *later = bpf_map_lookup_elem(&frames, &ahead);
    if (later)
        (void)*(volatile __u64 *)&later->words[0];
    pace->next += 1;
    *to = *from;
    return XDP_TX;
}

char _license[] SEC("license") = "Dual BSD/GPL";
