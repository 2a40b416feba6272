/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The XDP program: takes ESP for the engine before the kernel makes a socket buffer of it. Rows 1, 2 and 3 of the packets
 * that arrive, as gvpn_ingress has them; everything else is left to the kernel and so to gvpn_ingress. It is attached only
 * while the daemon lives, and only where AF_XDP receives.
 */
#pragma once

#include "route.h"

SEC("xdp")
int gvpn_wire(struct xdp_md *context)
{
	__u32 index = context->ingress_ifindex, queue = context->rx_queue_index;
	struct interface *interface = bpf_map_lookup_elem(&interfaces, &index);
	struct classification c;
	struct packet p;

	if (!interface || !interface->wires || queue >= QUEUES_PER_INTERFACE)
		return XDP_PASS;
	if (!read_esp((void *)(long)context->data, (void *)(long)context->data_end, &p))
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
