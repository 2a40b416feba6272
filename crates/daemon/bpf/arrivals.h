/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * ESP that arrived goes to the engine through a ring buffer that its lane shares with us: the frame is copied, and its socket
 * buffer is free again at once, on the processor that made it. Without the daemon the ring fills up, and everything is dropped.
 */
#pragma once

#include "lanes.h"

static __always_inline __u64 wakes_lane(__u32 lane)
{
	struct sleeper *sleeper = bpf_map_lookup_elem(&sleepers, &lane);

	/*
	 * Asked once there is a record: the lane looks for one after it has said that it sleeps. An exchange because it orders,
	 * and before the copy because it waits for all that was written.
	 */
	return sleeper && __sync_lock_test_and_set(&sleeper->asleep, 0) ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

#define COPY_ARRIVAL(skb, ring, lane, size, length)                                           \
	({                                                                                     \
		struct arrival *record = bpf_ringbuf_reserve(ring, sizeof(*record) + (size), 0); \
		bool copied = false;                                                           \
                                                                                               \
		if (record) {                                                                  \
			__u64 wake = wakes_lane(lane);                                         \
                                                                                               \
			record->interface = (skb)->ifindex;                                    \
			record->length = (length);                                             \
			copied = bpf_skb_load_bytes((skb), 0, record->frame, (length)) == 0;   \
			if (copied)                                                            \
				bpf_ringbuf_submit(record, wake);                              \
			else                                                                   \
				bpf_ringbuf_discard(record, wake);                             \
		}                                                                              \
		copied;                                                                        \
	})

static __always_inline bool fits_arrival(const struct __sk_buff *skb)
{
	/* A super-frame is cut by its virtio-net header, which the TAP gives. */
	return skb->len <= LARGE_ARRIVAL && !skb->gso_size;
}

/* The frame is the engine's, or dropped. */
static __always_inline int to_ring(struct __sk_buff *skb, const struct packet *p)
{
	__u32 length = skb->len, lane = lane_hash(&p->outer) % lanes;
	void *ring = bpf_map_lookup_elem(&arrivals, &lane);
	bool copied = false;

	/* The verifier is to know the bounds that are compared here. */
	asm volatile("" : "+r"(length));
	if (length < ETH_HLEN || !ring)
		return TC_ACT_SHOT;
	if (length <= SMALL_ARRIVAL)
		copied = COPY_ARRIVAL(skb, ring, lane, SMALL_ARRIVAL, length);
	else if (length <= USUAL_ARRIVAL)
		copied = COPY_ARRIVAL(skb, ring, lane, USUAL_ARRIVAL, length);
	else if (length <= LARGE_ARRIVAL)
		copied = COPY_ARRIVAL(skb, ring, lane, LARGE_ARRIVAL, length);
	count(skb->ifindex, copied ? COUNTER_ESP_TO_ENGINE : COUNTER_RING_FULL_DROPPED);
	return TC_ACT_SHOT;
}
