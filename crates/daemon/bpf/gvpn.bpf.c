/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The three tc programs of the data path, and the XDP program of the interfaces where AF_XDP receives. Row numbers are those of docs/datapath.md.
 *
 * They decide what prefix maps can express exactly and send the rest to the engine by redirecting it to the interface's
 * TAP. They outlive the daemon; the TAP does not: what would have gone to the engine is then dropped.
 */
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <stddef.h>

#include "route.h"
#include "xdp.h"

char _license[] SEC("license") = "Dual MIT/GPL";

static __always_inline bool is_tagged(const struct __sk_buff *skb)
{
	return skb->vlan_present || skb->protocol == bpf_htons(ETH_P_8021Q) ||
	       skb->protocol == bpf_htons(ETH_P_8021AD);
}

/*
 * Row 5. A Register carries multicast data of a local source to the rendezvous point: it may pass only if the data may.
 * Null-Registers carry none. Data of a policy cannot be protected inside a Register yet, so it is dropped.
 */
static __always_inline bool may_register(struct __sk_buff *skb, const struct packet *p,
					 const struct interface *interface)
{
	struct packet data = { .table = p->table };
	struct classification c;
	struct iphdr inner;
	__u32 flags;

	if (p->is_ip6 || p->is_fragment)
		return false;
	if (bpf_skb_load_bytes(skb, p->transport + 4, &flags, 4) < 0)
		return false;
	if (flags & bpf_htonl(0x40000000))
		return true;
	if (interface->flags & INTERFACE_ALL_LEAVING)
		return false;
	if (bpf_skb_load_bytes(skb, p->transport + 8, &inner, sizeof(inner)) < 0 || inner.version != 4)
		return false;
	data.outer.source[0] = inner.saddr;
	data.outer.destination[0] = inner.daddr;
	classify(&data, &data.outer, &c);
	return c.excluded || !c.candidate;
}

SEC("classifier")
int gvpn_egress(struct __sk_buff *skb)
{
	__u32 index = skb->ifindex;
	struct interface *interface = bpf_map_lookup_elem(&interfaces, &index);
	bool own = skb->ingress_ifindex == 0;
	bool injected = !own && skb->mark == MARK_INJECT;
	bool transit = !own && !injected && is_external(skb->ingress_ifindex);
	struct classification c, quoted = {};
	struct packet p;

	/* Frames of VLAN devices above: packets of another L3 interface, which has its own programs if it is external. */
	if (is_tagged(skb) || skb->protocol == bpf_htons(ETH_P_ARP))
		return TC_ACT_UNSPEC;
	if (!interface)
		return TC_ACT_SHOT;
	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6)) {
		if (own || transit)
			return TC_ACT_UNSPEC; /* LLDP, 802.1X, IS-IS, ... */
		count(index, COUNTER_OTHER_PROTOCOL_DROPPED);
		return TC_ACT_SHOT;
	}
	if (!read_packet(skb, &p)) {
		count(index, COUNTER_UNREADABLE_DROPPED);
		return TC_ACT_SHOT;
	}
	p.table = interface->table;

	/* Row 4 */
	if (transit) {
		count(index, COUNTER_TRANSIT);
		return TC_ACT_UNSPEC;
	}
	classify(&p, &p.outer, &c);
	if (p.is_error)
		classify(&p, &p.quoted, &quoted);

	if (own) {
		/* Row 1; a later fragment has no SPI to check. */
		if (skb->mark == MARK_TX && p.protocol == PROTOCOL_ESP &&
		    (p.is_later_fragment || is_known_spi(index, p.spi)))
			return TC_ACT_UNSPEC;
		if (skb->mark == MARK_CLEAR)
			return TC_ACT_UNSPEC;
		/* Row 2 */
		if (p.protocol == PROTOCOL_UDP && (skb->mark == MARK_CONTROL || is_key_management(&p, p.outer.destination)))
			return TC_ACT_UNSPEC;
		/* Row 5 */
		if (p.protocol == PROTOCOL_PIM && (p.is_fragment || p.type == 0x21)) {
			if (may_register(skb, &p, interface))
				return TC_ACT_UNSPEC;
			count(index, COUNTER_REGISTER_DROPPED);
			return TC_ACT_SHOT;
		}
		/* Row 3; an ICMP error that quotes protected data is none of a neighbour's business. */
		if (is_link_control(&p))
			return TC_ACT_UNSPEC;
		if (c.destination_on_link && !quoted.candidate)
			return TC_ACT_UNSPEC;
	}
	/* Row 2 again: rekeys of a group, where multicast routing sends them on. */
	if (!own && !injected && is_rekey(&p))
		return TC_ACT_UNSPEC;
	/* Row 6: an ICMP error belongs to what it quotes. */
	if (p.is_error ? quoted.excluded : c.excluded) {
		if (!injected) {
			count(index, COUNTER_EXCLUDED);
			return TC_ACT_UNSPEC;
		}
	}
	/* Row 11 */
	if (own && !c.candidate && !quoted.candidate)
		return TC_ACT_UNSPEC;
	/* Row 9, where no policy can match and clear is the default */
	if (!own && !injected && !c.candidate && !quoted.candidate && !(interface->flags & INTERFACE_ALL_LEAVING))
		return TC_ACT_UNSPEC;
	return to_engine(skb, interface, (own ? METADATA_OWN : 0) | (injected ? METADATA_INJECTED : 0),
			 COUNTER_LEAVING_TO_ENGINE);
}

SEC("classifier")
int gvpn_ingress(struct __sk_buff *skb)
{
	__u32 index = skb->ifindex;
	struct interface *interface;
	struct classification c, quoted = {};
	enum route route;
	struct packet p;
	bool known, mine;

	/* Frames to the Ethernet address of others are seen in promiscuous mode; the kernel drops them. */
	if (skb->mark == MARK_INJECT || is_tagged(skb) || skb->pkt_type == PACKET_OTHERHOST)
		return TC_ACT_UNSPEC;
	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return TC_ACT_UNSPEC;
	interface = bpf_map_lookup_elem(&interfaces, &index);
	if (!interface)
		return TC_ACT_SHOT;
	if (!read_packet(skb, &p)) {
		count(index, COUNTER_UNREADABLE_DROPPED);
		return TC_ACT_SHOT;
	}
	p.table = interface->table;

	if (is_link_local_multicast(&p))
		return TC_ACT_UNSPEC;
	classify(&p, &p.outer, &c);
	if (p.is_error)
		classify(&p, &p.quoted, &quoted);

	/*
	 * Rows 2, 3, 6: for the engine. The fragments of one packet must all go the same way, and only the first has an
	 * SPI; but ESP of ours has the addresses of the inner packet, so it always is a candidate.
	 */
	known = is_known_spi(index, p.spi) && (p.protocol == PROTOCOL_ESP || p.is_error);
	mine = p.protocol == PROTOCOL_ESP && p.is_fragment ? c.candidate : known;

	/* Rows 4, 8: ESP of an SPI we do not know, or clear, where a policy might want our ESP. */
	if (!mine) {
		if (p.is_error ? quoted.excluded : c.excluded)
			return TC_ACT_UNSPEC;
		if (!c.candidate && !quoted.candidate && !(interface->flags & INTERFACE_ALL_ARRIVING))
			return TC_ACT_UNSPEC;
		if (is_multicast(&p) && (is_link_control(&p) || is_key_management(&p, p.outer.destination)))
			return TC_ACT_UNSPEC;
	}
	/* Row 1 is asked last because the question is dear. */
	route = is_multicast(&p) ? ROUTE_INWARD : find_route(skb, index, &p);
	if (route == ROUTE_OUTWARD) {
		if (mine)
			count(index, COUNTER_TRANSIT_ESP);
		return TC_ACT_UNSPEC;
	}
	if (mine)
		return to_engine(skb, interface, METADATA_WIRE, COUNTER_ESP_TO_ENGINE);
	if (route == ROUTE_HERE)
		return TC_ACT_UNSPEC;
	return to_engine(skb, interface, p.protocol == PROTOCOL_ESP ? METADATA_WIRE : METADATA_INGRESS,
			 COUNTER_ARRIVING_TO_ENGINE);
}

/* On the TAP: what the daemon writes enters the kernel as if the external interface had received it. */
SEC("classifier")
int gvpn_inject(struct __sk_buff *skb)
{
	__u32 tap = skb->ifindex;
	__u32 *interface = bpf_map_lookup_elem(&taps, &tap);

	if (!interface)
		return TC_ACT_SHOT;
	skb->mark = MARK_INJECT;
	return bpf_redirect(*interface, BPF_F_INGRESS);
}
