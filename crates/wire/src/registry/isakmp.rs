//! ISAKMP and IKE numbers (RFC 2408, RFC 2409).

registry! {
    /// Type of a payload, as in every Next Payload field.
    PayloadType(u8) {
        NONE = 0, "none";
        SECURITY_ASSOCIATION = 1, "SA";
        PROPOSAL = 2, "P";
        TRANSFORM = 3, "T";
        KEY_EXCHANGE = 4, "KE";
        IDENTIFICATION = 5, "ID";
        CERTIFICATE = 6, "CERT";
        CERTIFICATE_REQUEST = 7, "CR";
        HASH = 8, "HASH";
        SIGNATURE = 9, "SIG";
        NONCE = 10, "NONCE";
        NOTIFICATION = 11, "N";
        DELETE = 12, "D";
        VENDOR_ID = 13, "VID";
        SA_KEK = 15, "SAK";
        SA_TEK = 16, "SAT";
        KEY_DOWNLOAD = 17, "KD";
        SEQUENCE_NUMBER = 18, "SEQ";
        PROOF_OF_POSSESSION = 19, "POP";
        NAT_DISCOVERY = 20, "NAT-D";
        NAT_ORIGINAL_ADDRESS = 21, "NAT-OA";
        GROUP_ASSOCIATED_POLICY = 22, "GAP";
    }
}

registry! {
    /// Exchange type of the ISAKMP header. 32 and 33 mean Quick Mode and New Group Mode in the IPsec DOI.
    ExchangeType(u8) {
        BASE = 1, "base";
        IDENTITY_PROTECTION = 2, "identity protection (main mode)";
        AUTHENTICATION_ONLY = 3, "authentication only";
        AGGRESSIVE = 4, "aggressive";
        INFORMATIONAL = 5, "informational";
        GROUPKEY_PULL = 32, "GROUPKEY-PULL";
        GROUPKEY_PUSH = 33, "GROUPKEY-PUSH";
        UNREGISTERED_ACKNOWLEDGEMENT = 34, "known unregistered use";
        GROUPKEY_PUSH_ACK = 35, "GROUPKEY-PUSH-ACK";
    }
}

registry! {
    /// Domain of interpretation.
    Doi(u32) {
        ISAKMP = 0, "ISAKMP";
        IPSEC = 1, "IPsec";
        GDOI = 2, "GDOI";
    }
}

registry! {
    /// Security protocol of a proposal, notification or (outside GDOI) deletion.
    ProtocolId(u8) {
        NONE = 0, "none";
        ISAKMP = 1, "ISAKMP";
        AH = 2, "AH";
        ESP = 3, "ESP";
        IPCOMP = 4, "IPCOMP";
    }
}

registry! {
    /// ISAKMP transform identifier of a phase 1 proposal.
    TransformId(u8) {
        KEY_IKE = 1, "KEY_IKE";
    }
}

registry! {
    /// Phase 1 attribute class (RFC 2409 appendix A).
    PhaseOneAttribute(u16) {
        ENCRYPTION_ALGORITHM = 1, "encryption algorithm";
        HASH_ALGORITHM = 2, "hash algorithm";
        AUTHENTICATION_METHOD = 3, "authentication method";
        GROUP_DESCRIPTION = 4, "group description";
        GROUP_TYPE = 5, "group type";
        GROUP_PRIME = 6, "group prime/irreducible polynomial";
        GROUP_GENERATOR_ONE = 7, "group generator one";
        GROUP_GENERATOR_TWO = 8, "group generator two";
        GROUP_CURVE_A = 9, "group curve A";
        GROUP_CURVE_B = 10, "group curve B";
        LIFE_TYPE = 11, "life type";
        LIFE_DURATION = 12, "life duration";
        PRF = 13, "prf";
        KEY_LENGTH = 14, "key length";
        FIELD_SIZE = 15, "field size";
        GROUP_ORDER = 16, "group order";
    }
}

registry! {
    /// Phase 1 encryption algorithm.
    EncryptionAlgorithm(u16) {
        DES_CBC = 1, "DES-CBC";
        IDEA_CBC = 2, "IDEA-CBC";
        BLOWFISH_CBC = 3, "Blowfish-CBC";
        RC5_CBC = 4, "RC5-R16-B64-CBC";
        TRIPLE_DES_CBC = 5, "3DES-CBC";
        CAST_CBC = 6, "CAST-CBC";
        AES_CBC = 7, "AES-CBC";
        CAMELLIA_CBC = 8, "CAMELLIA-CBC";
    }
}

registry! {
    /// Phase 1 hash algorithm.
    HashAlgorithm(u16) {
        MD5 = 1, "MD5";
        SHA1 = 2, "SHA";
        TIGER = 3, "Tiger";
        SHA2_256 = 4, "SHA2-256";
        SHA2_384 = 5, "SHA2-384";
        SHA2_512 = 6, "SHA2-512";
    }
}

registry! {
    /// Phase 1 authentication method.
    AuthenticationMethod(u16) {
        PRE_SHARED_KEY = 1, "pre-shared key";
        DSS_SIGNATURES = 2, "DSS signatures";
        RSA_SIGNATURES = 3, "RSA signatures";
        RSA_ENCRYPTION = 4, "encryption with RSA";
        REVISED_RSA_ENCRYPTION = 5, "revised encryption with RSA";
        ECDSA_SHA256_P256 = 9, "ECDSA with SHA-256 on the P-256 curve";
        ECDSA_SHA384_P384 = 10, "ECDSA with SHA-384 on the P-384 curve";
        ECDSA_SHA512_P521 = 11, "ECDSA with SHA-512 on the P-521 curve";
    }
}

registry! {
    /// Diffie-Hellman group.
    GroupDescription(u16) {
        MODP_768 = 1, "768-bit MODP";
        MODP_1024 = 2, "1024-bit MODP";
        EC2N_155 = 3, "EC2N GP[2^155]";
        EC2N_185 = 4, "EC2N GP[2^185]";
        MODP_1536 = 5, "1536-bit MODP";
        MODP_2048 = 14, "2048-bit MODP";
        MODP_3072 = 15, "3072-bit MODP";
        MODP_4096 = 16, "4096-bit MODP";
        MODP_6144 = 17, "6144-bit MODP";
        MODP_8192 = 18, "8192-bit MODP";
        ECP_256 = 19, "256-bit random ECP";
        ECP_384 = 20, "384-bit random ECP";
        ECP_521 = 21, "521-bit random ECP";
        MODP_1024_160 = 22, "1024-bit MODP with 160-bit prime order subgroup";
        MODP_2048_224 = 23, "2048-bit MODP with 224-bit prime order subgroup";
        MODP_2048_256 = 24, "2048-bit MODP with 256-bit prime order subgroup";
        ECP_192 = 25, "192-bit random ECP";
        ECP_224 = 26, "224-bit random ECP";
        BRAINPOOL_224 = 27, "224-bit Brainpool ECP";
        BRAINPOOL_256 = 28, "256-bit Brainpool ECP";
        BRAINPOOL_384 = 29, "384-bit Brainpool ECP";
        BRAINPOOL_512 = 30, "512-bit Brainpool ECP";
    }
}

registry! {
    /// Unit of a life duration; the same numbers in phase 1 and in the IPsec DOI.
    LifeType(u16) {
        SECONDS = 1, "seconds";
        KILOBYTES = 2, "kilobytes";
    }
}

registry! {
    /// Encoding of a certificate or certificate request (RFC 2408 section 3.9).
    CertificateEncoding(u8) {
        NONE = 0, "none";
        PKCS7 = 1, "PKCS #7 wrapped X.509 certificate";
        PGP = 2, "PGP certificate";
        DNS_SIGNED_KEY = 3, "DNS signed key";
        X509_SIGNATURE = 4, "X.509 certificate - signature";
        X509_KEY_EXCHANGE = 5, "X.509 certificate - key exchange";
        KERBEROS = 6, "Kerberos tokens";
        CERTIFICATE_REVOCATION_LIST = 7, "certificate revocation list (CRL)";
        AUTHORITY_REVOCATION_LIST = 8, "authority revocation list (ARL)";
        SPKI = 9, "SPKI certificate";
        X509_ATTRIBUTE = 10, "X.509 certificate - attribute";
    }
}

registry! {
    /// Notify message type (RFC 2408 section 3.14.1, RFC 2407 section 4.6.3, RFC 3706 section 6).
    NotifyType(u16) {
        INVALID_PAYLOAD_TYPE = 1, "INVALID-PAYLOAD-TYPE";
        DOI_NOT_SUPPORTED = 2, "DOI-NOT-SUPPORTED";
        SITUATION_NOT_SUPPORTED = 3, "SITUATION-NOT-SUPPORTED";
        INVALID_COOKIE = 4, "INVALID-COOKIE";
        INVALID_MAJOR_VERSION = 5, "INVALID-MAJOR-VERSION";
        INVALID_MINOR_VERSION = 6, "INVALID-MINOR-VERSION";
        INVALID_EXCHANGE_TYPE = 7, "INVALID-EXCHANGE-TYPE";
        INVALID_FLAGS = 8, "INVALID-FLAGS";
        INVALID_MESSAGE_ID = 9, "INVALID-MESSAGE-ID";
        INVALID_PROTOCOL_ID = 10, "INVALID-PROTOCOL-ID";
        INVALID_SPI = 11, "INVALID-SPI";
        INVALID_TRANSFORM_ID = 12, "INVALID-TRANSFORM-ID";
        ATTRIBUTES_NOT_SUPPORTED = 13, "ATTRIBUTES-NOT-SUPPORTED";
        NO_PROPOSAL_CHOSEN = 14, "NO-PROPOSAL-CHOSEN";
        BAD_PROPOSAL_SYNTAX = 15, "BAD-PROPOSAL-SYNTAX";
        PAYLOAD_MALFORMED = 16, "PAYLOAD-MALFORMED";
        INVALID_KEY_INFORMATION = 17, "INVALID-KEY-INFORMATION";
        INVALID_ID_INFORMATION = 18, "INVALID-ID-INFORMATION";
        INVALID_CERT_ENCODING = 19, "INVALID-CERT-ENCODING";
        INVALID_CERTIFICATE = 20, "INVALID-CERTIFICATE";
        CERT_TYPE_UNSUPPORTED = 21, "CERT-TYPE-UNSUPPORTED";
        INVALID_CERT_AUTHORITY = 22, "INVALID-CERT-AUTHORITY";
        INVALID_HASH_INFORMATION = 23, "INVALID-HASH-INFORMATION";
        AUTHENTICATION_FAILED = 24, "AUTHENTICATION-FAILED";
        INVALID_SIGNATURE = 25, "INVALID-SIGNATURE";
        ADDRESS_NOTIFICATION = 26, "ADDRESS-NOTIFICATION";
        NOTIFY_SA_LIFETIME = 27, "NOTIFY-SA-LIFETIME";
        CERTIFICATE_UNAVAILABLE = 28, "CERTIFICATE-UNAVAILABLE";
        UNSUPPORTED_EXCHANGE_TYPE = 29, "UNSUPPORTED-EXCHANGE-TYPE";
        UNEQUAL_PAYLOAD_LENGTHS = 30, "UNEQUAL-PAYLOAD-LENGTHS";
        CONNECTED = 16384, "CONNECTED";
        RESPONDER_LIFETIME = 24576, "RESPONDER-LIFETIME";
        REPLAY_STATUS = 24577, "REPLAY-STATUS";
        INITIAL_CONTACT = 24578, "INITIAL-CONTACT";
        R_U_THERE = 36136, "R-U-THERE";
        R_U_THERE_ACK = 36137, "R-U-THERE-ACK";
    }
}

impl NotifyType {
    /// Whether the notification tells of an error (RFC 2408 section 3.14.1: 1 to 16383).
    pub fn is_error(self) -> bool {
        (1..=16383).contains(&self.0)
    }
}
