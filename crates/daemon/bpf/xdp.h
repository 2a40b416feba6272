/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The XDP program: takes ESP for the engine before the kernel makes a socket buffer of it. Rows 1, 2 and 3 of the packets
 * that arrive, as gvpn_ingress has them; everything else is left to the kernel and so to gvpn_ingress. It is attached only
 * while the daemon lives, and only where AF_XDP receives.
 */
#pragma once

#include "route.h"

/* False: no ESP, or not in the plain form that is worth the short way. */
static __always_inline bool read_esp(struct xdp_md *context, struct packet *p)
{
	void *data = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct ethhdr *ethernet = data;
	__u16 fragment;

	__builtin_memset(p, 0, sizeof(*p));
	if ((void *)(ethernet + 1) > end)
		return false;
	if (ethernet->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(ethernet + 1);

		if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl != 5 || ip->protocol != PROTOCOL_ESP)
			return false;
		p->outer.source[0] = ip->saddr;
		p->outer.destination[0] = ip->daddr;
		p->tos = ip->tos;
		fragment = bpf_ntohs(ip->frag_off);
		p->is_fragment = fragment & 0x3fff;
		p->is_later_fragment = fragment & 0x1fff;
		data = ip + 1;
	} else if (ethernet->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)(ethernet + 1);

		if ((void *)(ip + 1) > end || ip->version != 6 || ip->nexthdr != PROTOCOL_ESP)
			return false;
		p->is_ip6 = true;
		__builtin_memcpy(p->outer.source, &ip->saddr, 16);
		__builtin_memcpy(p->outer.destination, &ip->daddr, 16);
		p->tos = (ip->priority << 4) | (ip->flow_lbl[0] >> 4);
		data = ip + 1;
	} else {
		return false;
	}
	p->protocol = PROTOCOL_ESP;
	if (!p->is_later_fragment) {
		if (data + 4 > end)
			return false;
		p->spi = *(__u32 *)data;
	}
	return true;
}

SEC("xdp")
int gvpn_wire(struct xdp_md *context)
{
	__u32 index = context->ingress_ifindex, queue = context->rx_queue_index;
	struct interface *interface = bpf_map_lookup_elem(&interfaces, &index);
	struct classification c;
	struct packet p;

	if (!interface || !interface->wires || queue >= QUEUES_PER_INTERFACE || !read_esp(context, &p))
		return XDP_PASS;
	p.table = interface->table;
	if (is_link_local_multicast(&p))
		return XDP_PASS;
	/* As in gvpn_ingress: all fragments of a packet must go the same way. */
	if (p.is_fragment) {
		classify(&p, &p.outer, &c);
		if (!c.candidate)
			return XDP_PASS;
	} else if (!is_known_spi(index, p.spi)) {
		return XDP_PASS;
	}
	if (!is_multicast(&p) && find_route(context, index, &p) == ROUTE_OUTWARD)
		return XDP_PASS;
	count(index, COUNTER_ESP_TO_ENGINE);
	/* Where no socket is in the slot, the frame takes the other way. */
	return bpf_redirect_map(&wires, interface->wires - 1 + queue, XDP_PASS);
}
