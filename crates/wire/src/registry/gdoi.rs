//! GDOI numbers (RFC 6407, RFC 8052, RFC 8263).

registry! {
    /// KEK attribute class of an SA KEK payload.
    KekAttribute(u16) {
        MANAGEMENT_ALGORITHM = 1, "KEK_MANAGEMENT_ALGORITHM";
        ALGORITHM = 2, "KEK_ALGORITHM";
        KEY_LENGTH = 3, "KEK_KEY_LENGTH";
        KEY_LIFETIME = 4, "KEK_KEY_LIFETIME";
        SIGNATURE_HASH_ALGORITHM = 5, "SIG_HASH_ALGORITHM";
        SIGNATURE_ALGORITHM = 6, "SIG_ALGORITHM";
        SIGNATURE_KEY_LENGTH = 7, "SIG_KEY_LENGTH";
        KE_OAKLEY_GROUP = 8, "KE_OAKLEY_GROUP";
        ACKNOWLEDGEMENT_REQUESTED = 9, "KEK_ACK_REQUESTED";
    }
}

registry! {
    /// KEK_MANAGEMENT_ALGORITHM.
    KekManagementAlgorithm(u16) {
        LKH = 1, "LKH";
    }
}

registry! {
    /// KEK_ALGORITHM.
    KekAlgorithm(u16) {
        DES = 1, "KEK_ALG_DES";
        TRIPLE_DES = 2, "KEK_ALG_3DES";
        AES = 3, "KEK_ALG_AES";
    }
}

registry! {
    /// SIG_HASH_ALGORITHM.
    SignatureHashAlgorithm(u16) {
        MD5 = 1, "SIG_HASH_MD5";
        SHA1 = 2, "SIG_HASH_SHA1";
        SHA256 = 3, "SIG_HASH_SHA256";
        SHA384 = 4, "SIG_HASH_SHA384";
        SHA512 = 5, "SIG_HASH_SHA512";
    }
}

registry! {
    /// SIG_ALGORITHM.
    SignatureAlgorithm(u16) {
        RSA = 1, "SIG_ALG_RSA";
        DSS = 2, "SIG_ALG_DSS";
        ECDSS = 3, "SIG_ALG_ECDSS";
        ECDSA_256 = 4, "SIG_ALG_ECDSA-256";
        ECDSA_384 = 5, "SIG_ALG_ECDSA-384";
        ECDSA_521 = 6, "SIG_ALG_ECDSA-521";
    }
}

registry! {
    /// KEK_ACK_REQUESTED (RFC 8263).
    KekAcknowledgement(u16) {
        KEK_SHA256 = 1, "REKEY_ACK_KEK_SHA256";
        LKH_SHA256 = 2, "REKEY_ACK_LKH_SHA256";
        KEK_SHA512 = 3, "REKEY_ACK_KEK_SHA512";
        LKH_SHA512 = 4, "REKEY_ACK_LKH_SHA512";
    }
}

registry! {
    /// Protocol-ID of an SA TEK payload, and of a Delete payload in GDOI, where zero means the KEK.
    TekProtocol(u8) {
        KEK = 0, "KEK";
        IPSEC_ESP = 1, "GDOI_PROTO_IPSEC_ESP";
        IPSEC_AH = 2, "GDOI_PROTO_IPSEC_AH";
        IEC_61850 = 3, "GDOI_PROTO_IEC_61850";
    }
}

registry! {
    /// Key Download type of a key packet.
    KeyDownloadType(u8) {
        TEK = 1, "TEK";
        KEK = 2, "KEK";
        LKH = 3, "LKH";
        SID = 4, "SID";
    }
}

registry! {
    /// Attribute class of a TEK key packet.
    TekKeyAttribute(u16) {
        ALGORITHM_KEY = 1, "TEK_ALGORITHM_KEY";
        INTEGRITY_KEY = 2, "TEK_INTEGRITY_KEY";
        SOURCE_AUTHENTICATION_KEY = 3, "TEK_SOURCE_AUTH_KEY";
    }
}

registry! {
    /// Attribute class of a KEK key packet.
    KekKeyAttribute(u16) {
        ALGORITHM_KEY = 1, "KEK_ALGORITHM_KEY";
        SIGNATURE_KEY = 2, "SIG_ALGORITHM_KEY";
    }
}

registry! {
    /// Attribute class of an LKH key packet.
    LkhKeyAttribute(u16) {
        DOWNLOAD_ARRAY = 1, "LKH_DOWNLOAD_ARRAY";
        UPDATE_ARRAY = 2, "LKH_UPDATE_ARRAY";
        SIGNATURE_KEY = 3, "SIG_ALGORITHM_KEY";
    }
}

registry! {
    /// Attribute class of a SID key packet.
    SidKeyAttribute(u16) {
        NUMBER_OF_SID_BITS = 1, "NUMBER_OF_SID_BITS";
        SID_VALUE = 2, "SID_VALUE";
    }
}

registry! {
    /// Group associated policy attribute class. 128 and above are ours: IANA assigned none for IP-D3P.
    GapAttribute(u16) {
        ACTIVATION_TIME_DELAY = 1, "ACTIVATION_TIME_DELAY";
        DEACTIVATION_TIME_DELAY = 2, "DEACTIVATION_TIME_DELAY";
        SENDER_ID_REQUEST = 3, "SENDER_ID_REQUEST";
        D3P_TYPE = 128, "D3P type (private)";
        D3P_WINDOW = 129, "D3P window in ms (private)";
        D3P_PSEUDO_TIME = 130, "D3P pseudo-time (private)";
    }
}

registry! {
    /// Authentication algorithm of an IEC 61850 TEK (RFC 8052).
    IecAuthentication(u16) {
        NONE = 1, "NONE";
        HMAC_SHA256_128 = 2, "HMAC-SHA256-128";
        HMAC_SHA256 = 3, "HMAC-SHA256";
        AES_GMAC_128 = 4, "AES-GMAC-128";
        AES_GMAC_256 = 5, "AES-GMAC-256";
        HMAC_SHA384 = 6, "HMAC-SHA-384";
        HMAC_SHA512 = 7, "HMAC-SHA-512";
    }
}

registry! {
    /// Confidentiality algorithm of an IEC 61850 TEK (RFC 8052).
    IecConfidentiality(u16) {
        NONE = 1, "NONE";
        AES_CBC_128 = 2, "AES-CBC-128";
        AES_CBC_256 = 3, "AES-CBC-256";
        AES_GCM_128 = 4, "AES-GCM-128";
        AES_GCM_256 = 5, "AES-GCM-256";
    }
}

registry! {
    /// SA TEK attribute class of an IEC 61850 TEK (RFC 8052).
    IecAttribute(u16) {
        ACTIVATION_TIME_DELAY = 1, "SA_ATD";
        KEY_DELIVERY_ASSURANCE = 2, "SA_KDA";
    }
}
