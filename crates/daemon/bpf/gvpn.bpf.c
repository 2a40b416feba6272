/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The three tc programs of the data path, the program that spreads a TAP's queues over the lanes, and the XDP program of the
 * interfaces where AF_XDP receives. Row numbers are those of docs/datapath.md.
 *
 * They decide what prefix maps can express exactly and send the rest to the engine by redirecting it to the interface's
 * TAP. They outlive the daemon; the TAP does not: what would have gone to the engine is then dropped.
 */
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <stddef.h>

#include "arrivals.h"
#include "route.h"
#include "xdp.h"

char _license[] SEC("license") = "Dual MIT/GPL";

static __always_inline bool is_tagged(const struct __sk_buff *skb)
{
	return skb->vlan_present || skb->protocol == bpf_htons(ETH_P_8021Q) ||
	       skb->protocol == bpf_htons(ETH_P_8021AD);
}

/*
 * Row 5. A Register carries multicast data to the rendezvous point inside a unicast packet, so it is judged by what it
 * carries, whoever made it. Null-Registers carry none; one that is longer than they are may.
 */
static __always_inline bool is_register(const struct packet *p)
{
	return p->protocol == PROTOCOL_PIM && !is_multicast(p) && (p->is_fragment || p->type == PIM_REGISTER);
}

/* What is inside a Register. False: nobody can tell. */
static __always_inline bool read_register(struct __sk_buff *skb, const struct packet *p, struct packet *inner)
{
	__u32 at = p->transport + REGISTER_LENGTH;
	__u8 version;

	__builtin_memset(inner, 0, sizeof(*inner));
	inner->table = p->table;
	if (p->is_fragment || bpf_skb_load_bytes(skb, at, &version, 1) < 0)
		return false;
	if (version >> 4 == 4) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) < 0 || ip.ihl < 5)
			return false;
		inner->outer.source[0] = ip.saddr;
		inner->outer.destination[0] = ip.daddr;
		inner->protocol = ip.protocol;
		at += ip.ihl * 4;
	} else if (version >> 4 == 6) {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) < 0)
			return false;
		inner->is_ip6 = true;
		__builtin_memcpy(inner->outer.source, &ip.saddr, 16);
		__builtin_memcpy(inner->outer.destination, &ip.daddr, 16);
		inner->protocol = ip.nexthdr;
		at += sizeof(ip);
	} else {
		return false;
	}
	if (inner->protocol == PROTOCOL_ESP && bpf_skb_load_bytes(skb, at, &inner->spi, 4) < 0)
		inner->spi = 0;
	return true;
}

static __always_inline bool is_null_register(struct __sk_buff *skb, const struct packet *p)
{
	__u32 flags;

	return !p->is_fragment && bpf_skb_load_bytes(skb, p->transport + 4, &flags, 4) == 0 &&
	       flags & bpf_htonl(0x40000000) && skb->len - p->transport <= LONGEST_NULL_REGISTER;
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

	/* Row 5; not for decrypted packets: somebody has protected the Register as a whole. */
	if (!injected && is_register(&p) && !is_null_register(skb, &p)) {
		struct classification data = { .candidate = true };
		struct packet inner;

		if (read_register(skb, &p, &inner)) {
			if (own && skb->mark == MARK_TX && is_known_spi(index, inner.spi))
				return TC_ACT_UNSPEC;
			classify(&inner, &inner.outer, &data);
		}
		if ((data.candidate && !data.excluded) || (!own && c.candidate) || interface->flags & INTERFACE_ALL_LEAVING) {
			count(index, COUNTER_REGISTER_TO_ENGINE);
			return to_engine(skb, interface, &p, own ? METADATA_OWN : 0, COUNTER_LEAVING_TO_ENGINE);
		}
		return TC_ACT_UNSPEC;
	}

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
	if (!injected && is_skipped(&p, &c, interface, FILTER_LEAVING)) {
		count(index, COUNTER_EXCLUDED);
		return TC_ACT_UNSPEC;
	}
	/* Row 11 */
	if (own && !c.candidate && !quoted.candidate)
		return TC_ACT_UNSPEC;
	/* Row 9, where no policy can match and clear is the default */
	if (!own && !injected && !c.candidate && !quoted.candidate && !(interface->flags & INTERFACE_ALL_LEAVING))
		return TC_ACT_UNSPEC;
	return to_engine(skb, interface, &p, (own ? METADATA_OWN : 0) | (injected ? METADATA_INJECTED : 0),
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
	bool mine;

	/* Frames to the Ethernet address of others are seen in promiscuous mode; the kernel drops them. */
	if (skb->mark == MARK_INJECT || is_tagged(skb) || skb->pkt_type == PACKET_OTHERHOST)
		return TC_ACT_UNSPEC;
	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return TC_ACT_UNSPEC;
	interface = bpf_map_lookup_elem(&interfaces, &index);
	if (!interface)
		return TC_ACT_SHOT;
	if (!read_esp((void *)(long)skb->data, (void *)(long)skb->data_end, &p) && !read_packet(skb, &p)) {
		count(index, COUNTER_UNREADABLE_DROPPED);
		return TC_ACT_SHOT;
	}
	p.table = interface->table;

	if (is_link_local_multicast(&p))
		return TC_ACT_UNSPEC;

	/*
	 * Rows 2, 3, 6: for the engine. The fragments of one packet must all go the same way, and only the first has an
	 * SPI; but ESP of ours has the addresses of the inner packet, so it always is a candidate. Whole ESP of ours is what
	 * there is most of, and its prefixes are not asked for.
	 */
	mine = is_known_spi(index, p.spi) && (p.protocol == PROTOCOL_ESP || p.is_error);
	if (!mine || p.is_fragment) {
		classify(&p, &p.outer, &c);
		if (p.is_error)
			classify(&p, &p.quoted, &quoted);
		if (p.protocol == PROTOCOL_ESP && p.is_fragment)
			mine = c.candidate;
	}

	/* Rows 4, 8: ESP of an SPI we do not know, or clear, where a policy might want our ESP. */
	if (!mine) {
		if (p.is_error ? quoted.excluded : c.excluded)
			return TC_ACT_UNSPEC;
		if (is_skipped(&p, &c, interface, FILTER_ARRIVING))
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
	if (mine && p.protocol == PROTOCOL_ESP && fits_arrival(skb))
		return to_ring(skb, interface, &p);
	if (mine)
		return to_engine(skb, interface, &p, METADATA_WIRE, COUNTER_ESP_TO_ENGINE);
	if (route == ROUTE_HERE)
		return TC_ACT_UNSPEC;
	return to_engine(skb, interface, &p, p.protocol == PROTOCOL_ESP ? METADATA_WIRE : METADATA_INGRESS,
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

/* On the TAP: which queue, and so which lane, gets a frame. The kernel takes the remainder. */
SEC("socket")
int gvpn_lane(struct __sk_buff *skb)
{
	return skb->hash;
}
