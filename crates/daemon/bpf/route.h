/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Where a packet that arrived would go: asked of the kernel's routing table. */
#pragma once

#include "classify.h"

static __always_inline bool is_external(__u32 interface)
{
	return bpf_map_lookup_elem(&interfaces, &interface);
}

enum route { ROUTE_HERE, ROUTE_INWARD, ROUTE_OUTWARD };

/* Where a unicast packet that arrived would go next. */
static __always_inline enum route find_route(void *context, __u32 interface, const struct packet *p)
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
