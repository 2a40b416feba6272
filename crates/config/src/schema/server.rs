//! Rows of `security group-vpn server`.

use super::features::*;
use super::row::Value::*;
use super::row::*;

pub(super) const AUTHENTICATION_METHODS: &[Choice] = &[
    choice("pre-shared-keys", "Both peers know one key"),
    later("rsa-signatures", "Certificates with RSA keys", CERTIFICATES),
    later("ecdsa-signatures", "Certificates with ECDSA keys", CERTIFICATES),
    later("dsa-signatures", "Certificates with DSA keys", CERTIFICATES),
];
pub(super) const IKE_HASHES: &[Choice] = &[
    choice("md5", "MD5 (weak)"),
    choice("sha1", "SHA-1"),
    choice("sha-256", "SHA-256"),
    choice("sha-384", "SHA-384"),
    choice("sha-512", "SHA-512"),
];
pub(super) const IKE_CIPHERS: &[Choice] = &[
    choice("des-cbc", "DES (weak)"),
    choice("3des-cbc", "Triple DES (weak)"),
    choice("aes-128-cbc", "AES with a 128-bit key"),
    choice("aes-192-cbc", "AES with a 192-bit key"),
    choice("aes-256-cbc", "AES with a 256-bit key"),
];
pub(super) const DH_GROUPS: &[Choice] = &[
    choice("group1", "MODP 768 (weak)"),
    choice("group2", "MODP 1024 (weak)"),
    choice("group5", "MODP 1536"),
    choice("group14", "MODP 2048"),
    choice("group15", "MODP 3072"),
    choice("group16", "MODP 4096"),
    choice("group19", "ECP 256"),
    choice("group20", "ECP 384"),
    choice("group21", "ECP 521"),
    choice("group24", "MODP 2048 with a 256-bit subgroup"),
];
pub(super) const ESP_INTEGRITIES: &[Choice] = &[
    choice("hmac-md5-96", "HMAC-MD5, 96 bits (weak)"),
    choice("hmac-sha1-96", "HMAC-SHA-1, 96 bits"),
    choice("hmac-sha-256-128", "HMAC-SHA-256, 128 bits"),
    choice("hmac-sha-384-192", "HMAC-SHA-384, 192 bits"),
    choice("hmac-sha-512-256", "HMAC-SHA-512, 256 bits"),
];
pub(super) const ESP_CIPHERS: &[Choice] = &[
    choice("des-cbc", "DES (weak)"),
    choice("3des-cbc", "Triple DES (weak)"),
    choice("aes-128-cbc", "AES-CBC with a 128-bit key"),
    choice("aes-192-cbc", "AES-CBC with a 192-bit key"),
    choice("aes-256-cbc", "AES-CBC with a 256-bit key"),
    choice("aes-128-gcm", "AES-GCM with a 128-bit key, authenticates by itself"),
    choice("aes-192-gcm", "AES-GCM with a 192-bit key, authenticates by itself"),
    choice("aes-256-gcm", "AES-GCM with a 256-bit key, authenticates by itself"),
];
pub(super) const SIGNATURE_HASHES: &[Choice] = &[
    choice("md5", "MD5 (weak)"),
    choice("sha1", "SHA-1"),
    choice("sha-256", "SHA-256"),
    choice("sha-384", "SHA-384"),
];
pub(super) const SIGNATURE_ALGORITHMS: &[Choice] = &[
    choice("rsa-2048", "RSA, 2048 bits"),
    choice("rsa-3072", "RSA, 3072 bits"),
    choice("ecdsa-256", "ECDSA with P-256"),
    choice("ecdsa-384", "ECDSA with P-384"),
    choice("ecdsa-521", "ECDSA with P-521"),
];
const MODES: &[Choice] = &[
    choice("main", "Main mode: identities are protected"),
    choice("aggressive", "Aggressive mode: three messages"),
];
pub(super) const IKE_DOIS: &[Choice] =
    &[choice("1", "IPsec, as several implementations send"), choice("2", "GDOI, as RFC 6407 says")];
const ID_LENGTHS: &[Choice] = &[choice("1", "One octet, as RFC 6407 says"), choice("2", "Two octets")];
const SENDER_ID_BITS: &[Choice] = &[
    choice("8", "255 senders"),
    choice("12", "4095 senders"),
    choice("16", "65535 senders"),
    choice("24", "16 million senders"),
];
const COMMUNICATION_TYPES: &[Choice] =
    &[choice("unicast", "One copy to each member"), choice("multicast", "One datagram to a multicast group")];
const SERVER_ROLES: &[Choice] =
    &[choice("root-server", "Makes the keys"), choice("sub-server", "Takes over")];
pub(super) const LEVELS: &[Choice] = &[
    choice("error", "Errors"),
    choice("warning", "Warnings"),
    choice("notice", "Conditions to handle specially"),
    choice("info", "Informational messages"),
    choice("verbose", "Verbose messages"),
    choice("all", "Everything"),
];
pub(super) const FLAGS: &[Choice] = &[
    choice("timer", "Timer events"),
    choice("routing-socket", "Routing socket messages"),
    choice("parse", "Configuration processing"),
    choice("config", "Configuration download"),
    choice("ike", "Phase 1"),
    choice("policy-manager", "Policy manager"),
    choice("general", "General events"),
    choice("database", "Security association database"),
    choice("certificates", "Certificates"),
    choice("snmp", "SNMP operations"),
    choice("thread", "Threads"),
    choice("high-availability", "High availability"),
    choice("next-hop-tunnels", "Next-hop tunnels"),
    choice("all", "Everything"),
];

const SECONDS_OF_PHASE_1: Value = Number { min: 180, max: 86400, unit: "seconds" };

pub(super) const ROWS: &[Row] = &[
    container("security / group-vpn / server", "Key server"),
    container("security / group-vpn / server / ike", "Phase 1 with the members"),
    leaves("security / group-vpn / server / ike / listen-port", Number { min: 1, max: 65535, unit: "" }, 4, "Further UDP port to listen on")
        .meaning("The server always listens on 848. 500 serves members that begin phase 1 there."),
    list("security / group-vpn / server / ike / proposal <name>", &[Name(32)], "Phase 1 proposal"),
    leaf("security / group-vpn / server / ike / proposal <name> / description", Text(80), "Free text"),
    leaf("security / group-vpn / server / ike / proposal <name> / authentication-method", Words(AUTHENTICATION_METHODS), "How the peers prove themselves")
        .default("pre-shared-keys"),
    leaf("security / group-vpn / server / ike / proposal <name> / authentication-algorithm", Words(IKE_HASHES), "Hash of phase 1")
        .meaning("Must be given."),
    leaf("security / group-vpn / server / ike / proposal <name> / encryption-algorithm", Words(IKE_CIPHERS), "Cipher of phase 1")
        .meaning("Must be given."),
    leaf("security / group-vpn / server / ike / proposal <name> / dh-group", Words(DH_GROUPS), "Diffie-Hellman group of phase 1")
        .default("group2")
        .meaning("With authentication-algorithm sha-256 or longer the default is group14."),
    leaf("security / group-vpn / server / ike / proposal <name> / lifetime-seconds", SECONDS_OF_PHASE_1, "Lifetime of phase 1")
        .default("28800")
        .meaning("On a member whose gateway names servers with `server-address` the default is 180."),
    list("security / group-vpn / server / ike / policy <name>", &[Name(32)], "Phase 1 policy"),
    leaf("security / group-vpn / server / ike / policy <name> / description", Text(80), "Free text"),
    leaf("security / group-vpn / server / ike / policy <name> / mode", Words(MODES), "Mode of phase 1").default("main"),
    leaves("security / group-vpn / server / ike / policy <name> / proposals", Name(32), 10, "Proposals, in order of preference")
        .meaning("At least one."),
    leaf("security / group-vpn / server / ike / policy <name> / proposal-set", Words(&[choice("basic", "basic"), choice("compatible", "compatible"), choice("standard", "standard")]), "Predefined proposals")
        .not_yet(PROPOSAL_SETS),
    container("security / group-vpn / server / ike / policy <name> / pre-shared-key", "Pre-shared key").one_line(),
    leaf("security / group-vpn / server / ike / policy <name> / pre-shared-key / ascii-text", SecretText, "The key as text")
        .meaning("Shown in the reversible `$9$` form, which hides it from a glance only. Fewer than 20 characters: a warning."),
    leaf("security / group-vpn / server / ike / policy <name> / pre-shared-key / hexadecimal", SecretHexadecimal, "The key as hexadecimal digits"),
    container("security / group-vpn / server / ike / policy <name> / certificate", "Certificates").not_yet(CERTIFICATES),
    leaf("security / group-vpn / server / ike / policy <name> / certificate / local-certificate", Name(255), "Our certificate"),
    container("security / group-vpn / server / ike / policy <name> / certificate / trusted-ca", "Accepted certificate authorities").one_line(),
    leaf("security / group-vpn / server / ike / policy <name> / certificate / trusted-ca / ca-index", Number { min: 0, max: 4294967295, unit: "" }, "One authority"),
    leaf("security / group-vpn / server / ike / policy <name> / certificate / trusted-ca / ca-profile", Name(255), "One authority"),
    flag("security / group-vpn / server / ike / policy <name> / certificate / trusted-ca / use-all", "Every authority"),
    leaf("security / group-vpn / server / ike / policy <name> / certificate / peer-certificate-type", Words(&[choice("pkcs7", "PKCS #7"), choice("x509-signature", "X.509")]), "Form of the peer's certificate")
        .default("x509-signature"),
    list("security / group-vpn / server / ike / gateway <name>", &[Name(32)], "A member that may talk to the server"),
    leaf("security / group-vpn / server / ike / gateway <name> / ike-policy", Name(32), "Its phase 1 policy").meaning("Must be given."),
    leaf("security / group-vpn / server / ike / gateway <name> / address", Address, "The member's address")
        .meaning("Either this or `dynamic`. The VRRP address of a redundant pair of members."),
    container("security / group-vpn / server / ike / gateway <name> / dynamic", "A member whose address is not known").one_line(),
    leaf("security / group-vpn / server / ike / gateway <name> / dynamic / hostname", Identity, "It shows this FQDN"),
    leaf("security / group-vpn / server / ike / gateway <name> / dynamic / inet", Address, "It shows this address"),
    leaf("security / group-vpn / server / ike / gateway <name> / dynamic / user-at-hostname", Identity, "It shows this user@FQDN"),
    leaf("security / group-vpn / server / ike / gateway <name> / dynamic / distinguished-name", Identity, "It shows this name")
        .not_yet(CERTIFICATES),
    container("security / group-vpn / server / ike / gateway <name> / local-identity", "Identity we show").one_line()
        .default("our address"),
    leaf("security / group-vpn / server / ike / gateway <name> / local-identity / inet", Address, "An address"),
    leaf("security / group-vpn / server / ike / gateway <name> / local-identity / hostname", Identity, "An FQDN"),
    leaf("security / group-vpn / server / ike / gateway <name> / local-identity / user-at-hostname", Identity, "A user@FQDN"),
    flag("security / group-vpn / server / ike / gateway <name> / local-identity / distinguished-name", "That of our certificate")
        .not_yet(CERTIFICATES),
    container("security / group-vpn / server / ike / gateway <name> / remote-identity", "Identity the peer must show").one_line()
        .default("its address"),
    leaf("security / group-vpn / server / ike / gateway <name> / remote-identity / inet", Address, "An address"),
    leaf("security / group-vpn / server / ike / gateway <name> / remote-identity / hostname", Identity, "An FQDN"),
    leaf("security / group-vpn / server / ike / gateway <name> / remote-identity / user-at-hostname", Identity, "A user@FQDN"),
    leaf("security / group-vpn / server / ike / gateway <name> / remote-identity / distinguished-name", Identity, "A distinguished name")
        .not_yet(CERTIFICATES),
    leaf("security / group-vpn / server / ike / gateway <name> / local-address", Address, "Answer at this address only"),
    leaf("security / group-vpn / server / ike / gateway <name> / routing-instance", Name(128), "Routing instance in which the member is reached")
        .default("default"),
    container("security / group-vpn / server / ike / gateway <name> / dead-peer-detection", "Dead peer detection"),
    flag("security / group-vpn / server / ike / gateway <name> / dead-peer-detection / always-send", "Probe regardless of traffic"),
    leaf("security / group-vpn / server / ike / gateway <name> / dead-peer-detection / interval", Number { min: 10, max: 60, unit: "seconds" }, "Time between probes")
        .default("10"),
    leaf("security / group-vpn / server / ike / gateway <name> / dead-peer-detection / threshold", Number { min: 1, max: 5, unit: "probes" }, "Unanswered probes until the peer counts as dead")
        .default("5"),
    container("security / group-vpn / server / ipsec", "Protection of traffic"),
    list("security / group-vpn / server / ipsec / proposal <name>", &[Name(32)], "ESP proposal"),
    leaf("security / group-vpn / server / ipsec / proposal <name> / description", Text(80), "Free text"),
    leaf("security / group-vpn / server / ipsec / proposal <name> / authentication-algorithm", Words(ESP_INTEGRITIES), "Integrity algorithm")
        .meaning("Must be given with the CBC ciphers, must not be given with GCM."),
    leaf("security / group-vpn / server / ipsec / proposal <name> / encryption-algorithm", Words(ESP_CIPHERS), "Cipher").meaning("Must be given."),
    leaf("security / group-vpn / server / ipsec / proposal <name> / lifetime-seconds", Timer { min: 180, max: 86400, test_min: 60 }, "Lifetime of a traffic key")
        .default("3600"),
    list("security / group-vpn / server / group <name>", &[Name(32)], "Group"),
    leaf("security / group-vpn / server / group <name> / description", Text(80), "Free text"),
    leaf("security / group-vpn / server / group <name> / group-id", Number { min: 1, max: 4294967295, unit: "" }, "Number of the group")
        .meaning("Must be given; members name the group by it."),
    leaf("security / group-vpn / server / group <name> / member-threshold", Number { min: 1, max: 4294967295, unit: "members" }, "Most members that may be registered")
        .default("no limit"),
    list("security / group-vpn / server / group <name> / ike-gateway <name>", &[Name(32)], "A member of the group")
        .meaning("Only listed gateways may register."),
    leaf("security / group-vpn / server / group <name> / server-address", Address, "Address of the key server")
        .meaning("The address the server answers from; with VRRP the shared one. Version 2 has no such statement."),
    leaf("security / group-vpn / server / group <name> / anti-replay-time-window", Window, "Oldest packet that is accepted")
        .default("100")
        .meaning("A bare number counts seconds; milliseconds are written as `200ms`. A packet is accepted if its time is not further than this from the receiver's, in either direction. A change comes with new keys."),
    flag("security / group-vpn / server / group <name> / no-anti-replay", "Accept packets of any age"),
    leaf("security / group-vpn / server / group <name> / signature-algorithm", Words(SIGNATURE_ALGORITHMS), "Key pair that signs rekeys")
        .default("rsa-2048")
        .meaning("The server makes the key pair, keeps it in its state directory, and makes another only when this statement changes."),
    container("security / group-vpn / server / group <name> / compatibility", "Habits of other implementations"),
    flag("security / group-vpn / server / group <name> / compatibility / rsa-bare-hash", "Accept rekeys of another server that are signed over the bare hash")
        .not_yet(SERVER_TO_SERVER)
        .meaning("Rekeys are always signed in the form of RFC 6407. Members that verify have the statement in their own `ipsec vpn`."),
    leaf("security / group-vpn / server / group <name> / compatibility / ike-doi", Words(IKE_DOIS), "DOI of a phase 1 that the server starts")
        .default("2")
        .not_yet(SERVER_TO_SERVER)
        .meaning("A phase 1 that a member starts is answered in the member's DOI."),
    leaf("security / group-vpn / server / group <name> / compatibility / id-length-octets", Words(ID_LENGTHS), "Octets of identification lengths in SAK and SAT payloads")
        .default("1")
        .meaning("What is received is read either way."),
    leaf("security / group-vpn / server / group <name> / acknowledgement", Words(&[choice("required", "Required")]), "Members that never acknowledge a rekey are removed, too")
        .meaning("Three consecutive rekeys without acknowledgement remove a member from the active list; without this statement only one that has ever acknowledged, since others may not know how."),
    leaf("security / group-vpn / server / group <name> / sender-id-bits", Words(SENDER_ID_BITS), "Width of a sender identifier")
        .default("16")
        .meaning("Ciphers in GCM only: each registration takes some of the group's identifiers, of our members two for each core (lane) and two more. When all are given, all keys are replaced at once, as RFC 6407 says; so are they when this statement changes."),
    leaf("security / group-vpn / server / group <name> / activation-time-delay", Timer { min: 10, max: 900, test_min: 1 }, "Time until a new key is used for sending")
        .default("15"),
    list("security / group-vpn / server / group <name> / ipsec-sa <name>", &[Name(32)], "One traffic key"),
    leaf("security / group-vpn / server / group <name> / ipsec-sa <name> / proposal", Name(32), "Its ESP proposal").meaning("Must be given."),
    list("security / group-vpn / server / group <name> / ipsec-sa <name> / match-policy <name>", &[Name(32)], "Traffic it protects"),
    leaf("security / group-vpn / server / group <name> / ipsec-sa <name> / match-policy <name> / source", Prefix, "Source addresses").meaning("Must be given; 0.0.0.0/0 is any."),
    leaf("security / group-vpn / server / group <name> / ipsec-sa <name> / match-policy <name> / destination", Prefix, "Destination addresses")
        .meaning("Must be given; may equal the source."),
    leaf("security / group-vpn / server / group <name> / ipsec-sa <name> / match-policy <name> / source-port", Number { min: 0, max: 65535, unit: "" }, "Source port, 0 for any")
        .default("0"),
    leaf("security / group-vpn / server / group <name> / ipsec-sa <name> / match-policy <name> / destination-port", Number { min: 0, max: 65535, unit: "" }, "Destination port, 0 for any")
        .default("0"),
    leaf("security / group-vpn / server / group <name> / ipsec-sa <name> / match-policy <name> / protocol", Number { min: 0, max: 254, unit: "" }, "IP protocol, 0 for any")
        .default("0"),
    container("security / group-vpn / server / group <name> / server-member-communication", "Rekey by push")
        .meaning("Absent: members pull."),
    leaf("security / group-vpn / server / group <name> / server-member-communication / communication-type", Words(COMMUNICATION_TYPES), "How rekeys travel").default("unicast"),
    leaf("security / group-vpn / server / group <name> / server-member-communication / multicast-group", Multicast, "Destination of rekeys")
        .meaning("Must be given with `multicast`. Members may name the group by it, too."),
    leaf("security / group-vpn / server / group <name> / server-member-communication / multicast-outgoing-interface", Interface, "Interface rekeys leave by")
        .meaning("Must be given with `multicast`. A loopback stands for its address as source; rekeys then leave where the multicast route of the group points."),
    leaf("security / group-vpn / server / group <name> / server-member-communication / lifetime-seconds", Timer { min: 300, max: 86400, test_min: 120 }, "Lifetime of the key encryption key")
        .default("3600")
        .meaning("At least twice the time that its replacement takes: the larger of a tenth of it and retransmission-period x number-of-retransmission + 2 x activation-time-delay."),
    leaf("security / group-vpn / server / group <name> / server-member-communication / retransmission-period", Number { min: 2, max: 60, unit: "seconds" }, "Time between rounds")
        .default("10"),
    leaf("security / group-vpn / server / group <name> / server-member-communication / number-of-retransmission", Number { min: 0, max: 60, unit: "rounds" }, "Rounds until a rekey counts as unacknowledged")
        .default("2"),
    leaf("security / group-vpn / server / group <name> / server-member-communication / heartbeat", Timer { min: 60, max: 3600, test_min: 5 }, "Heartbeat period")
        .default("300 with multicast, none with unicast"),
    leaf("security / group-vpn / server / group <name> / server-member-communication / encryption-algorithm", Words(IKE_CIPHERS), "Cipher of rekeys").meaning("Must be given."),
    leaf("security / group-vpn / server / group <name> / server-member-communication / sig-hash-algorithm", Words(SIGNATURE_HASHES), "Hash of the signature")
        .meaning("Must be given with RSA. ECDSA implies it: SHA-256, SHA-384 or SHA-512 as the curve."),
    leaf("security / group-vpn / server / group <name> / server-member-communication / certificate", Name(255), "Certificate that signs rekeys")
        .not_yet(CERTIFICATES)
        .meaning("Absent: the server makes a key pair."),
    container("security / group-vpn / server / group <name> / server-cluster", "Cooperating servers")
        .meaning("Servers share a group by `cluster-store`, which must be configured too. All of them answer registrations; one makes the keys."),
    leaf("security / group-vpn / server / group <name> / server-cluster / server-role", Words(SERVER_ROLES), "Part of this server").meaning("Must be given, the same in every group. A sub-server leaves root-servers half a lease of time to be elected first; whoever is elected leads until it fails."),
    list("security / group-vpn / server / group <name> / server-cluster / ike-gateway <name>", &[Name(32)], "Another server")
        .meaning("By this name `show security group-vpn server server-cluster` lists it. Servers find each other in the store, so nothing else depends on it."),
    leaf("security / group-vpn / server / group <name> / server-cluster / retransmission-period", Number { min: 2, max: 60, unit: "seconds" }, "Time between attempts")
        .default("10")
        .meaning("Kept and shown. The store is asked again after a quarter of a second, and then more and more seldom, up to this time."),
    container("security / group-vpn / server / cluster-store", "What cooperating servers share")
        .meaning("Keys, members and sequence numbers of all groups are kept there, sealed, instead of in the state directory."),
    container("security / group-vpn / server / cluster-store / etcd", "etcd, version 3"),
    leaves("security / group-vpn / server / cluster-store / etcd / endpoint", Text(255), 16, "URL of a member of etcd: `https://ADDRESS:PORT`")
        .meaning("At least one. They are tried in order; another one is tried when one fails or has no majority behind it. An IPv6 address stands in brackets and the URL in quotes."),
    leaf("security / group-vpn / server / cluster-store / etcd / prefix", Text(255), "First part of every key")
        .default("/groupvpn")
        .meaning("Clusters with different prefixes do not see each other."),
    leaf("security / group-vpn / server / cluster-store / etcd / server-name", Name(64), "Name of this server")
        .default("the host name")
        .meaning("Different on every server of the cluster."),
    leaf("security / group-vpn / server / cluster-store / etcd / lease-seconds", Number { min: 2, max: 60, unit: "seconds" }, "How long the others wait for a leader that has fallen silent")
        .default("5"),
    leaf("security / group-vpn / server / cluster-store / etcd / cluster-key", Text(1024), "File with the key that seals what is shared: 32 octets, or 64 hexadecimal digits")
        .default("the credential gvpn-cluster-key of systemd")
        .meaning("The same on every server. Only its owner may read it."),
    leaf("security / group-vpn / server / cluster-store / etcd / certificate-authority", Text(1024), "File with the authorities that sign etcd's certificates, PEM")
        .default("those of the system"),
    leaf("security / group-vpn / server / cluster-store / etcd / certificate", Text(1024), "File with our own certificate, PEM")
        .meaning("Together with `private-key`, where etcd asks for one."),
    leaf("security / group-vpn / server / cluster-store / etcd / private-key", Text(1024), "File with the key of our certificate, PEM"),
    leaf("security / group-vpn / server / cluster-store / etcd / user", Name(64), "User at etcd").meaning("Together with `password`."),
    leaf("security / group-vpn / server / cluster-store / etcd / password", SecretText, "Password at etcd"),
    container("security / group-vpn / server / traceoptions", "Trace options"),
    flag("security / group-vpn / server / traceoptions / no-remote-trace", "Accepted; tracing is local"),
    container("security / group-vpn / server / traceoptions / file", "Trace file").one_line(),
    leaf("security / group-vpn / server / traceoptions / file / filename", Text(1024), "Name of the file").nameless()
        .meaning("A bare name lies in the log directory."),
    leaf("security / group-vpn / server / traceoptions / file / size", Size, "Size at which the file is rotated").default("128k"),
    leaf("security / group-vpn / server / traceoptions / file / files", Number { min: 2, max: 1000, unit: "files" }, "How many files are kept").default("3"),
    flag("security / group-vpn / server / traceoptions / file / world-readable", "Everybody may read the file"),
    flag("security / group-vpn / server / traceoptions / file / no-world-readable", "Only the owner may read the file"),
    leaf("security / group-vpn / server / traceoptions / file / match", Expression, "Write matching lines only"),
    leaf("security / group-vpn / server / traceoptions / level", Words(LEVELS), "Most detailed level that is written").default("error"),
    leaves("security / group-vpn / server / traceoptions / flag", Words(FLAGS), 14, "What is traced"),
    container("security / group-vpn / server / traceoptions / gateway-filter", "Only messages about a gateway").not_yet(TRACE_FILTERS),
    leaf("security / group-vpn / server / traceoptions / gateway-filter / local-address", Address, "Its local address").not_yet(TRACE_FILTERS),
    leaf("security / group-vpn / server / traceoptions / gateway-filter / remote-address", Address, "Its remote address").not_yet(TRACE_FILTERS),
];
