//! Rows of `security group-vpn member` and of co-location.

use super::row::Value::*;
use super::row::*;
use super::server::IKE_DOIS;

const DF_BITS: &[Choice] =
    &[choice("clear", "Clear it"), choice("set", "Set it"), choice("copy", "Copy that of the inner header")];
const DIRECTIONS: &[Choice] = &[
    choice("input", "Packets that come by the interface from the hosts: refused"),
    choice("output", "Packets that leave by the interface"),
];
const STOP_BEHAVIOURS: &[Choice] = &[
    choice("closed", "Protected traffic is dropped until the daemon runs again"),
    choice("detach", "Everything is removed: traffic flows in clear"),
];
const GROUP_ID_FORMS: &[Choice] =
    &[choice("key-id", "Four octets of ID_KEY_ID"), choice("ipv4-address", "ID_IPV4_ADDR")];

pub(super) const ROWS: &[Row] = &[
    container("security / group-vpn / member", "Group member"),
    leaf("security / group-vpn / member / stop-behaviour", Words(STOP_BEHAVIOURS), "What an orderly stop leaves behind")
        .default("closed")
        .meaning("A crash always leaves it closed; `gvpnd --detach` opens it."),
    container("security / group-vpn / member / ike", "Phase 1 with the key servers"),
    same("security / group-vpn / member / ike / traceoptions", "security / group-vpn / server / traceoptions", "Trace options"),
    same("security / group-vpn / member / ike / proposal <name>", "security / group-vpn / server / ike / proposal <name>", "Phase 1 proposal"),
    same("security / group-vpn / member / ike / policy <name>", "security / group-vpn / server / ike / policy <name>", "Phase 1 policy"),
    list("security / group-vpn / member / ike / gateway <name>", &[Name(32)], "Key servers of a group"),
    leaf("security / group-vpn / member / ike / gateway <name> / ike-policy", Name(32), "Phase 1 policy").meaning("Must be given."),
    leaf("security / group-vpn / member / ike / gateway <name> / address", Address, "The key server")
        .meaning("Either this or `server-address`."),
    leaves("security / group-vpn / member / ike / gateway <name> / server-address", Address, 4, "Key servers, in order of preference"),
    list("security / group-vpn / member / ike / gateway <name> / local-address <address>", &[Address], "Address we talk from")
        .one_line()
        .most(1)
        .default("as the kernel routes"),
    leaf("security / group-vpn / member / ike / gateway <name> / local-address <address> / routing-instance", Name(128), "Routing instance in which the servers are reached"),
    leaf("security / group-vpn / member / ike / gateway <name> / routing-instance", Name(128), "Routing instance in which the servers are reached")
        .default("default")
        .meaning("What the VPN protects is in the instance of its external interfaces, which may be another one."),
    same("security / group-vpn / member / ike / gateway <name> / local-identity", "security / group-vpn / server / ike / gateway <name> / local-identity", "Identity we show"),
    same("security / group-vpn / member / ike / gateway <name> / remote-identity", "security / group-vpn / server / ike / gateway <name> / remote-identity", "Identity the server must show"),
    container("security / group-vpn / member / ipsec", "Protection of traffic"),
    list("security / group-vpn / member / ipsec / vpn <name>", &[Name(32)], "Membership of a group"),
    leaf("security / group-vpn / member / ipsec / vpn <name> / ike-gateway", Name(32), "Its key servers").meaning("Must be given."),
    leaf("security / group-vpn / member / ipsec / vpn <name> / group", Number { min: 1, max: 4294967295, unit: "" }, "Number of the group").meaning("Must be given."),
    leaf("security / group-vpn / member / ipsec / vpn <name> / group-vpn-external-interface", Interface, "Interface on which traffic is encrypted and decrypted")
        .meaning("A loopback means every interface of the outer zone of the scope policies. May be absent where a service set binds the VPN."),
    leaf("security / group-vpn / member / ipsec / vpn <name> / df-bit", Words(DF_BITS), "DF bit of the outer header").default("clear"),
    flag("security / group-vpn / member / ipsec / vpn <name> / recovery-probe", "Register again when ESP of the group's policies with an unknown SPI arrives")
        .meaning("At most as often as the member may try, at a random moment."),
    leaf("security / group-vpn / member / ipsec / vpn <name> / heartbeat-threshold", Number { min: 0, max: 10, unit: "heartbeats" }, "Missed heartbeats until the member registers again")
        .default("3")
        .meaning("0: never because of heartbeats."),
    leaf("security / group-vpn / member / ipsec / vpn <name> / match-direction", Words(DIRECTIONS), "Direction in which a service set matches")
        .default("output")
        .meaning("The policies are for packets that leave by the interfaces of the service set; their mirror images, for those that arrive. `input`, which is for interfaces that packets come by from the hosts, is an error: apply the service set to the interface by which they leave."),
    leaf("security / group-vpn / member / ipsec / vpn <name> / tunnel-mtu", Number { min: 256, max: 9192, unit: "octets" }, "Largest packet sent")
        .default("the interface's MTU")
        .meaning("Of the ESP packet. More than an external interface carries is refused at commit."),
    flag("security / group-vpn / member / ipsec / vpn <name> / forward-policy-mismatch", "Service sets: forward what no policy matches")
        .meaning("Without it such packets are dropped."),
    flag("security / group-vpn / member / ipsec / vpn <name> / paired-policies-only", "Refuse a traffic key with several policies, unless they are two mirror images")
        .meaning("As members of other makes do: the registration fails. Without it any policies are accepted, since each covers its mirror image."),
    container("security / group-vpn / member / ipsec / vpn <name> / fail-open", "Traffic in clear while not registered"),
    list("security / group-vpn / member / ipsec / vpn <name> / fail-open / rule <name>", &[Name(63)], "Rule").most(10),
    container("security / group-vpn / member / ipsec / vpn <name> / fail-open / rule <name> / source-address", "Source addresses").one_line(),
    leaf("security / group-vpn / member / ipsec / vpn <name> / fail-open / rule <name> / source-address / address", Prefix, "A prefix").nameless(),
    container("security / group-vpn / member / ipsec / vpn <name> / fail-open / rule <name> / destination-address", "Destination addresses").one_line(),
    leaf("security / group-vpn / member / ipsec / vpn <name> / fail-open / rule <name> / destination-address / address", Prefix, "A prefix").nameless(),
    leaf("security / group-vpn / member / ipsec / vpn <name> / fail-open / rule <name> / application", Name(63), "Application").default("any"),
    container("security / group-vpn / member / ipsec / vpn <name> / exclude", "Traffic always in clear"),
    same("security / group-vpn / member / ipsec / vpn <name> / exclude / rule <name>", "security / group-vpn / member / ipsec / vpn <name> / fail-open / rule <name>", "Rule"),
    container("security / group-vpn / member / ipsec / vpn <name> / compatibility", "Habits of other implementations"),
    leaf("security / group-vpn / member / ipsec / vpn <name> / compatibility / ike-doi", Words(IKE_DOIS), "DOI of the first attempt at phase 1")
        .default("2")
        .meaning("A server that refuses 2 is tried with 1 by itself."),
    leaf("security / group-vpn / member / ipsec / vpn <name> / compatibility / group-id-form", Words(GROUP_ID_FORMS), "How the group is named to the server").default("key-id"),
    flag("security / group-vpn / member / ipsec / vpn <name> / compatibility / non-esp-marker", "Four octets of zero before each message to the server")
        .meaning("Some servers expect them on any port but 500."),
    flag("security / group-vpn / member / ipsec / vpn <name> / compatibility / rsa-bare-hash", "Accept rekeys that are signed over the bare hash")
        .meaning("As IKEv1 signs, without DigestInfo; beside the form of RFC 6407."),
    container("security / group-vpn / co-location", "Key server and member on one machine"),
    same("security / group-vpn / co-location / server", "security / group-vpn / server", "Key server"),
    same("security / group-vpn / co-location / member", "security / group-vpn / member", "Group member"),
];
