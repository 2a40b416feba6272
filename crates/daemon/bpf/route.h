/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Where a packet that arrived would go: asked of the kernel's routing table. */
#pragma once

#include "classify.h"

static __always_inline bool is_external(__u32 interface)
{
	return bpf_map_lookup_elem(&interfaces, &interface);
}

enum route { ROUTE_HERE, ROUTE_INWARD, ROUTE_OUTWARD };

/* What the routing table said last about packets like this one. */
struct answer {
	__u64 tick;
	struct addresses between;
	__u32 interface;
	__u8 is_ip6, protocol, tos, route;
};

#define ROUTE_SLOTS 256

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ROUTE_SLOTS);
	__type(key, __u32);
	__type(value, struct answer);
} answers SEC(".maps");

static __always_inline enum route ask_route(void *context, __u32 interface, const struct packet *p)
{
	struct bpf_fib_lookup fib = {};
	long result;

	fib.ifindex = interface;
	fib.l4_protocol = p->protocol;
	fib.tot_len = 1; /* the packet's size is not the question */
	if (p->is_ip6) {
		fib.family = 10; /* AF_INET6 */
		__builtin_memcpy(fib.ipv6_src, p->outer.source, 16);
		__builtin_memcpy(fib.ipv6_dst, p->outer.destination, 16);
	} else {
		fib.family = 2; /* AF_INET */
		fib.tos = p->tos;
		fib.ipv4_src = p->outer.source[0];
		fib.ipv4_dst = p->outer.destination[0];
	}
	result = bpf_fib_lookup(context, &fib, sizeof(fib), 0);
	switch (result) {
	case BPF_FIB_LKUP_RET_SUCCESS:
	case BPF_FIB_LKUP_RET_NO_NEIGH:
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		return is_external(fib.ifindex) ? ROUTE_OUTWARD : ROUTE_INWARD;
	case BPF_FIB_LKUP_RET_UNSUPP_LWT:
		return ROUTE_INWARD; /* through an encapsulation: never a plain external interface */
	default:
		return ROUTE_HERE; /* for us, or for nobody: the kernel drops it */
	}
}

static __always_inline bool is_between(const struct addresses *one, const struct addresses *other)
{
	__u32 difference = 0;

	for (int word = 0; word < 4; word++)
		difference |= (one->source[word] ^ other->source[word]) |
			      (one->destination[word] ^ other->destination[word]);
	return !difference;
}

/*
 * Where a unicast packet that arrived would go next. What the table said is believed for the rest of the timer's tick, for
 * a stream of packets asks the same thousands of times.
 */
static __always_inline enum route find_route(void *context, __u32 interface, const struct packet *p)
{
	__u32 slot = hash_of(&p->outer) % ROUTE_SLOTS;
	__u64 tick = bpf_jiffies64();
	struct answer *answer = bpf_map_lookup_elem(&answers, &slot);

	if (!answer)
		return ask_route(context, interface, p);
	if (answer->tick != tick || answer->interface != interface || answer->is_ip6 != p->is_ip6 ||
	    answer->protocol != p->protocol || answer->tos != p->tos ||
	    !is_between(&p->outer, &answer->between)) {
		answer->route = ask_route(context, interface, p);
		answer->between = p->outer;
		answer->interface = interface;
		answer->is_ip6 = p->is_ip6;
		answer->protocol = p->protocol;
		answer->tos = p->tos;
		answer->tick = tick;
	}
	return answer->route;
}
