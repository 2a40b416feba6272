/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * ESP that arrived goes to the engine through a ring buffer that both share: the frame is copied, and its socket buffer is
 * free again at once, on the processor that made it. Without the daemon the ring fills up, and everything is dropped.
 */
#pragma once

#include "packet.h"

static __always_inline __u64 wakes_lane(void)
{
	__u32 only = 0;
	__u64 *asleep = bpf_map_lookup_elem(&sleeping, &only);

	/*
	 * Asked once there is a record: the lane looks for one after it has said that it sleeps. An exchange because it orders,
	 * and before the copy because it waits for all that was written.
	 */
	return asleep && __sync_lock_test_and_set(asleep, 0) ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

#define COPY_ARRIVAL(skb, size, length)                                                       \
	({                                                                                     \
		struct arrival *record = bpf_ringbuf_reserve(&arrivals, sizeof(*record) + (size), 0); \
		bool copied = false;                                                           \
                                                                                               \
		if (record) {                                                                  \
			__u64 wake = wakes_lane();                                             \
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
static __always_inline int to_ring(struct __sk_buff *skb)
{
	__u32 length = skb->len;
	bool copied = false;

	/* The verifier is to know the bounds that are compared here. */
	asm volatile("" : "+r"(length));
	if (length < ETH_HLEN)
		return TC_ACT_SHOT;
	if (length <= SMALL_ARRIVAL)
		copied = COPY_ARRIVAL(skb, SMALL_ARRIVAL, length);
	else if (length <= USUAL_ARRIVAL)
		copied = COPY_ARRIVAL(skb, USUAL_ARRIVAL, length);
	else if (length <= LARGE_ARRIVAL)
		copied = COPY_ARRIVAL(skb, LARGE_ARRIVAL, length);
	count(skb->ifindex, copied ? COUNTER_ESP_TO_ENGINE : COUNTER_RING_FULL_DROPPED);
	return TC_ACT_SHOT;
}
