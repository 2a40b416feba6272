/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * ESP that arrived goes to the engine through a ring buffer that its lane shares with us: the frame is copied, and its socket
 * buffer is free again at once, on the processor that made it. Without the daemon the ring fills up, and everything is dropped.
 *
 * A lane that sleeps is woken by the TAP: the frame, whose copy is in the ring, goes there, too, and says nothing else. The
 * ring buffer's own way to wake somebody is an interrupt of this processor, which costs as much as several packets.
 */
#pragma once

#include "classify.h"

/*
 * Whether the frame is to wake its lane. Asked once there is a record for it: the lane looks for one after it has said that it
 * sleeps. A locked instruction in any case because it orders, and before the copy because it waits for all that was written.
 */
static __always_inline bool wakes_lane(__u32 lane)
{
	struct sleeper *sleeper = bpf_map_lookup_elem(&sleepers, &lane);
	__u64 now = LANE_CALLED + bpf_jiffies64(), state;

	if (!sleeper)
		return false;
	state = __sync_val_compare_and_swap(&sleeper->state, LANE_SLEEPS, now);
	if (state < LANE_CALLED)
		return state == LANE_SLEEPS;
	/* Whoever called it may have done so by a TAP that is down or gone. */
	return now - state >= CALL_AGAIN && __sync_val_compare_and_swap(&sleeper->state, state, now) == state;
}

#define COPY_ARRIVAL(skb, ring, lane, size, length, wakes)                                     \
	({                                                                                     \
		struct arrival *record = bpf_ringbuf_reserve(ring, sizeof(*record) + (size), 0); \
		bool copied = false;                                                           \
                                                                                               \
		if (record) {                                                                  \
			wakes = wakes_lane(lane);                                              \
			record->interface = (skb)->ifindex;                                    \
			record->length = (length);                                             \
			copied = bpf_skb_load_bytes((skb), 0, record->frame, (length)) == 0;   \
			if (copied)                                                            \
				bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);                  \
			else                                                                   \
				bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);                 \
		}                                                                              \
		copied;                                                                        \
	})

static __always_inline bool fits_arrival(const struct __sk_buff *skb)
{
	/* A super-frame is cut by its virtio-net header, which the TAP gives. */
	return skb->len <= LARGE_ARRIVAL && !skb->gso_size;
}

/* The frame is the engine's, or dropped. */
static __always_inline int to_ring(struct __sk_buff *skb, const struct interface *interface, const struct packet *p)
{
	__u32 length = skb->len, lane = lane_hash(&p->outer) % lanes;
	void *ring = bpf_map_lookup_elem(&arrivals, &lane);
	bool copied = false, wakes = false;

	/* The verifier is to know the bounds that are compared here. */
	asm volatile("" : "+r"(length));
	if (length < ETH_HLEN || !ring)
		return TC_ACT_SHOT;
	if (length <= SMALL_ARRIVAL)
		copied = COPY_ARRIVAL(skb, ring, lane, SMALL_ARRIVAL, length, wakes);
	else if (length <= USUAL_ARRIVAL)
		copied = COPY_ARRIVAL(skb, ring, lane, USUAL_ARRIVAL, length, wakes);
	else if (length <= LARGE_ARRIVAL)
		copied = COPY_ARRIVAL(skb, ring, lane, LARGE_ARRIVAL, length, wakes);
	count(skb->ifindex, copied ? COUNTER_ESP_TO_ENGINE : COUNTER_RING_FULL_DROPPED);
	return wakes ? to_tap(skb, interface, &p->outer, METADATA_WAKE) : TC_ACT_SHOT;
}
